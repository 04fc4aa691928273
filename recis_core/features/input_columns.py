"""Which input fields features need, and of which kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from recis_core.features.custom import Custom
from recis_core.features.feature import Feature
from recis_core.features.op import Op
from recis_core.features.select_field import SelectField, SelectFields
from recis_core.features.value import BYTES

NARROWER = {
    ("number", "int"),
    ("number", "float"),
    ("any", "int"),
    ("any", "float"),
    ("any", "number"),
    ("any", "text"),
}


def input_columns(features: Sequence[Feature]) -> dict[str, str]:
    """{field: "int", "float", "number" or "text"}, what the ops need, in the order in which features name them.

    Where ops take any kind, SelectField's dtype says it.

    Raises:
      ValueError: one field is needed as two kinds; both features are named.
    """
    found: dict[str, tuple[str, str]] = {}
    for feature in features:
        for field, kind in _needs(feature):
            before, first = found.get(field, (kind, feature.name))
            found[field] = _both(field, (before, first), (kind, feature.name))
    return {field: kind for field, (kind, _) in found.items()}


def _both(field: str, first: tuple[str, str], second: tuple[str, str]) -> tuple[str, str]:
    if first[0] == second[0] or (second[0], first[0]) in NARROWER:
        return first
    if (first[0], second[0]) in NARROWER:
        return second
    raise ValueError(
        f"field {field!r} is wanted as {first[0]} by feature {first[1]!r} and as {second[0]} by feature {second[1]!r}. Read "
        "the column twice, under two names."
    )


def _needs(feature: Feature) -> Iterator[tuple[str, str]]:
    select, *others = feature.ops
    fields = select.input_list if isinstance(select, SelectFields) else (select,)
    for field, kind in zip(fields, _kinds(fields, others), strict=True):
        yield field.name, kind  # type: ignore[attr-defined]


def _kinds(fields: Sequence[Any], others: Sequence[Op]) -> list[str]:
    declared = [_of_dtype(field.dtype) for field in fields]
    if not others or isinstance(others[0], Custom):
        return declared
    kinds = others[0].kinds(len(fields))
    kinds += ["any"] * (len(fields) - len(kinds))
    narrowed = zip(kinds, declared, strict=True)
    return [own if kind == "any" or (kind == "number" and own == "float") else kind for kind, own in narrowed]


def _of_dtype(dtype: torch.dtype) -> str:
    if dtype in BYTES:
        return "text"
    return "float" if dtype.is_floating_point else "int"


def is_plain(select: Op) -> bool:
    """Whether all that it selects are fields of a dict."""
    fields = select.input_list if isinstance(select, SelectFields) else (select,)
    return all(isinstance(field, SelectField) and field.from_dict for field in fields)
