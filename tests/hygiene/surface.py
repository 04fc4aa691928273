"""The public surface as text: every public name of every public package, with its signature.

    python -m tests.hygiene.surface          writes tests/hygiene/surface.txt anew
    python -m tests.hygiene.surface FILE     writes another file

Read it in a fresh interpreter: torch wraps `step` of an optimizer's class when the first of it is made.

A class is listed with what recis_core gives it: members of bases from torch or the standard library are left out, and those
of a base that is public itself stand there. The text is the same on every supported Python and torch.
"""

from __future__ import annotations

import enum
import inspect
import sys
import typing
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import GenericAlias, ModuleType
from typing import Any

FILE = Path(__file__).with_name("surface.txt")
RENEW = "python -m tests.hygiene.surface"
PACKAGES = tuple(
    f"recis_core.{name}"
    for name in (
        *("backends", "bridge", "errors", "exchange", "features", "framework", "hashing", "hooks", "io"),
        *("jax", "metrics", "models", "models.llm", "nn", "optim", "planning", "ragged", "serialize", "serving"),
    )
)
OPERATORS = {
    *("__call__", "__len__", "__iter__", "__next__", "__contains__", "__enter__", "__exit__"),
    *("__getitem__", "__setitem__", "__delitem__"),
}
PLAIN = (int, float, str, bytes, type(None))  # whose text says all


def surface() -> str:
    modules = [import_module(name) for name in PACKAGES]
    listed = {id(getattr(module, name)) for module in modules for name in public_names(module)}
    return "\n".join(line for module in modules for line in package_lines(module, listed))


def package_lines(module: ModuleType, listed: set[int]) -> Iterator[str]:
    yield module.__name__
    for name in public_names(module):
        yield from (f"  {line}" for line in lines_of(name, getattr(module, name), listed))
    yield ""


def public_names(module: ModuleType) -> list[str]:
    """__all__, else what has no underscore and is ours."""
    unnamed = [name for name, value in vars(module).items() if is_public(name) and is_ours(value)]
    return sorted(getattr(module, "__all__", unnamed), key=lambda name: (name.lower(), name))


def lines_of(name: str, value: Any, listed: set[int]) -> Iterator[str]:
    if isinstance(value, type):
        yield f"class {name}{bases_of(value)}"
        yield from (f"  {line}" for line in class_lines(value, listed))
    elif isinstance(value, GenericAlias):
        yield f"{name} = {value}"
    elif callable(value):
        yield f"{name}{signature_of(value)}"
    else:
        yield f"{name}: {constant(value)}"


def bases_of(cls: type) -> str:
    names = [base.__name__ for base in cls.__bases__ if base is not object]
    return f"({', '.join(names)})" if names else ""


def class_lines(cls: type, listed: set[int]) -> Iterator[str]:
    constructor = constructor_of(cls)
    if constructor is not None:
        yield f"{cls.__name__}{text_of_signature(constructor)}"
    given = {} if constructor is None else constructor.parameters
    for name, owner in sorted(members(cls, listed).items()):
        if name not in given or not is_field(owner, name):
            yield member_line(name, owner)


def constructor_of(cls: type) -> inspect.Signature | None:
    """How it is called, where a class of ours says so; whatever __call__ a metaclass of torch's may have."""
    made = next(base for base in cls.__mro__ if {"__init__", "__new__"} & vars(base).keys())
    if not is_ours(made) or issubclass(cls, enum.Enum) or getattr(cls, "_is_protocol", False):
        return None
    if "__signature__" in vars(made):  # of pydantic, whose __init__ takes anything
        signature = inspect.signature(made)
        return signature.replace(return_annotation=signature.empty)
    signature = inspect.signature(vars(made).get("__init__", made.__new__))
    parameters = list(signature.parameters.values())[1:]
    return signature.replace(parameters=parameters, return_annotation=signature.empty)


def members(cls: type, listed: set[int]) -> dict[str, type]:
    """{public name: the class that has it}, where that is ours and is listed nowhere else."""
    owners = [base for base in reversed(cls.__mro__) if is_ours(base) and (base is cls or id(base) not in listed)]
    names = {owner: [*vars(owner), *inspect.get_annotations(owner)] for owner in owners}
    return {name: owner for owner in owners for name in names[owner] if is_public(name) or name in OPERATORS}


def member_line(name: str, owner: type) -> str:
    value = vars(owner).get(name, inspect.Parameter.empty)
    if isinstance(value, property):
        return f"{name}: property{returned_by(value.fget)}"
    if isinstance(value, classmethod | staticmethod):
        return f"{type(value).__name__} {name}{signature_of(value.__func__)}"
    if inspect.isfunction(value):
        return f"{name}{signature_of(value)}"
    return f"{name}: {attribute(name, owner, value)}"


def attribute(name: str, owner: type, value: Any) -> str:
    annotation = inspect.get_annotations(owner).get(name)
    if annotation is None:
        return constant(value)
    return text_of(annotation) + (f" = {value!r}" if isinstance(value, PLAIN) else "")


def is_field(owner: type, name: str) -> bool:
    return name in getattr(owner, "__dataclass_fields__", getattr(owner, "_fields", ()))


def signature_of(function: Any) -> str:
    return text_of_signature(inspect.signature(function))


def text_of_signature(signature: inspect.Signature) -> str:
    parameters = [
        p.replace(
            annotation=annotated(p.annotation),
            default=p.default if p.default is p.empty else Verbatim(default_of(p.default)),
        )
        for p in signature.parameters.values()
    ]
    return str(signature.replace(parameters=parameters, return_annotation=annotated(signature.return_annotation)))


def returned_by(function: Any) -> str:
    annotation = inspect.signature(function).return_annotation
    return "" if annotation is inspect.Signature.empty else f" -> {text_of(annotation)}"


class Verbatim:
    """Prints as its text, without quotes."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def annotated(annotation: Any) -> Any:
    return annotation if annotation is inspect.Signature.empty else Verbatim(text_of(annotation))


def text_of(annotation: Any) -> str:
    if isinstance(annotation, typing.ForwardRef):
        annotation = annotation.__forward_arg__
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def default_of(value: Any) -> str:
    """Its text; of what prints its address only that it is there."""
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, type) or inspect.isroutine(value):
        return str(value.__name__)
    return "..." if " at 0x" in repr(value) else repr(value)


def constant(value: Any) -> str:
    return f"{type(value).__name__} = {value!r}" if isinstance(value, PLAIN) else type(value).__name__


def is_public(name: str) -> bool:
    return not name.startswith("_")


def is_ours(value: Any) -> bool:
    return str(getattr(value, "__module__", "")).startswith("recis_core.")


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else FILE).write_text(surface())
