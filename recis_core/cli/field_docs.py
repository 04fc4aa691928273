"""The text below each field of a dataclass, which is its flag's help."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from itertools import pairwise


def field_docs(kind: type) -> dict[str, str]:
    """{field: its text in one line} of a class and its bases."""
    bases = [base for base in reversed(kind.__mro__) if "__annotations__" in vars(base)]
    return {name: text for base in bases for name, text in _of_class(base)}


def _of_class(kind: type) -> Iterator[tuple[str, str]]:
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0].body  # type: ignore[attr-defined]
    for field, text in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            yield field.target.id, " ".join(str(text.value.value).split())  # type: ignore[union-attr]
