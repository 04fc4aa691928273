"""Nested Python state as JSON beside flat tensors, so that nothing is pickled.

{"a": (1, t), 3: nan}  →  {"$dict": [["a", {"$tuple": [1, {"$tensor": ["/a/1", "F32", [2, 2]]}]}], [3, {"$float": "nan"}]]}
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recis_core.serialize.part_file import DTYPES, NAMES, Declared, declared, size_of


@dataclass(frozen=True)
class Sharded:
    """In place of a tensor whose blocks lie in other parts, under `name`."""

    name: str
    dtype: str
    shape: tuple[int, ...]


SCALARS = (str, int, float, bool, type(None))
DEPTH = 64  # of nested dicts and lists
INT_BITS = 4096
LARGEST = 1 << 62  # bytes of a tensor, with empty dimensions counted as 1
NON_FINITE = ("nan", "inf", "-inf")


def split_tensors(tree: Any, tensors: dict[str, Tensor], path: str = "", depth: int = DEPTH) -> Any:
    """The tree as JSON values; its tensors go into `tensors`, each under a path of its own.

    Raises:
      TypeError: the tree holds something that is no dict, list, tuple, tensor or JSON scalar.
      ValueError: the tree is nested too deep, or an integer is too long.
    """
    where = path or "/"
    if isinstance(tree, Tensor):
        return _split_tensor(tree, tensors, where)
    if isinstance(tree, SCALARS):
        return _split_scalar(tree, where)
    if isinstance(tree, Sharded):
        return {"$sharded": [tree.name, tree.dtype, list(tree.shape)]}
    if not isinstance(tree, dict | list | tuple):
        raise TypeError(
            f"state at {where} is a {type(tree).__name__}, which has no safe form; it can be saved as a tensor."
        )
    if not depth:
        raise ValueError(f"state at {where[:200]} is nested deeper than {DEPTH} levels.")
    if isinstance(tree, dict):
        return {
            "$dict": [
                [_split_key(k, where), split_tensors(v, tensors, f"{path}/{k}", depth - 1)] for k, v in tree.items()
            ]
        }
    items = [split_tensors(v, tensors, f"{path}/{i}", depth - 1) for i, v in enumerate(tree)]
    return {"$tuple": items} if isinstance(tree, tuple) else items


def _split_tensor(tensor: Tensor, tensors: dict[str, Tensor], path: str) -> dict[str, Any]:
    plain = tensor.detach()
    if type(plain) is not Tensor or plain.is_meta or plain.layout is not torch.strided or plain.dtype not in NAMES:
        raise TypeError(
            f"state at {path} is a {type(plain).__name__} of {plain.dtype} on {plain.device}, {plain.layout}; "
            "only plain strided tensors with values can be saved."
        )
    if not _is_shape(list(plain.shape)):
        raise ValueError(f"state at {path} is a tensor of shape {tuple(plain.shape)}, which is too large.")
    while path in tensors:  # {3: …, "3": …}
        path += "'"
    tensors[path] = plain
    kind, shape = declared(plain)
    return {"$tensor": [path, kind, list(shape)]}


def _split_key(key: Any, where: str) -> Any:
    if not isinstance(key, SCALARS):
        raise TypeError(f"state at {where} has a key of {type(key).__name__}; keys are strings, numbers or None.")
    return _split_scalar(key, where)


def _split_scalar(value: Any, where: str) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(float(value))}
    if isinstance(value, int) and value.bit_length() > INT_BITS:
        raise ValueError(
            f"state at {where} is an integer of {value.bit_length()} bits; at most {INT_BITS} can be saved."
        )
    return value


def join_tensors(tree: Any, tensors: Mapping[str, Any]) -> Any:
    """The tree that was split, with these values in place of its tensors. `tree` must have passed declared_tensors."""
    if isinstance(tree, list):
        return [join_tensors(v, tensors) for v in tree]
    if not isinstance(tree, dict):
        return tree
    if "$tensor" in tree:
        return tensors[tree["$tensor"][0]]
    if "$float" in tree:
        return float(tree["$float"])
    if "$sharded" in tree:
        name, kind, shape = tree["$sharded"]
        return Sharded(name, kind, tuple(shape))
    if "$tuple" in tree:
        return tuple(join_tensors(v, tensors) for v in tree["$tuple"])
    return {join_tensors(k, tensors): join_tensors(v, tensors) for k, v in tree["$dict"]}


def declared_tensors(tree: Any) -> dict[str, Declared]:
    """The dtypes and shapes that a split tree declares for its tensors.

    Raises:
      ValueError: split_tensors makes no such tree.
    """
    found: dict[str, Declared] = {}
    _survey(tree, found, DEPTH)
    return found


def _survey(tree: Any, found: dict[str, Declared], depth: int) -> None:
    if isinstance(tree, SCALARS):
        return
    if depth < 0:
        raise ValueError(f"it is nested deeper than {DEPTH} levels.")
    if isinstance(tree, list):
        for value in tree:
            _survey(value, found, depth - 1)
        return
    ((kind, inner),) = tree.items() if len(tree) == 1 else [("", None)]
    if kind == "$tensor":
        _survey_tensor(inner, found)
    elif kind == "$sharded":
        _survey_tensor(inner, {})
    elif kind == "$dict" and isinstance(inner, list):
        _survey_dict(inner, found, depth - 1)
    elif kind == "$tuple" and isinstance(inner, list):
        _survey(inner, found, depth)
    elif kind != "$float" or inner not in NON_FINITE:
        raise ValueError(f"it holds {str(tree)[:80]!r}, which is no value, list, dict or tensor.")


def _survey_tensor(inner: Any, found: dict[str, Declared]) -> None:
    fits = isinstance(inner, list) and len(inner) == 3 and isinstance(inner[0], str) and inner[0] not in found
    if not fits or not isinstance(inner[1], str) or inner[1] not in DTYPES or not _is_shape(inner[2]):
        raise ValueError(f"it holds a tensor {str(inner)[:80]!r}; wanted a new name, a dtype and a shape.")
    found[inner[0]] = inner[1], tuple(inner[2])


def _is_shape(shape: Any) -> bool:
    if not isinstance(shape, list) or len(shape) > DEPTH or not all(type(n) is int and n >= 0 for n in shape):
        return False
    return size_of("C64", tuple(n or 1 for n in shape)) <= LARGEST


def _survey_dict(pairs: list[Any], found: dict[str, Declared], depth: int) -> None:
    keys = set()
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError(f"it holds a pair {str(pair)[:80]!r}; wanted a key and a value.")
        key, value = pair
        if not isinstance(key, SCALARS):
            if not isinstance(key, dict) or list(key) != ["$float"]:
                raise ValueError(f"it holds a key {str(key)[:80]!r}; wanted a string, a number or null.")
            _survey(key, found, depth)
            key = float(key["$float"])
        if key in keys:
            raise ValueError(f"it holds the key {str(key)[:80]!r} twice.")
        keys.add(key)
        _survey(value, found, depth)
