"""Custom: a function of the user's, named and versioned."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from recis_core.features.arguments import as_text, as_whole
from recis_core.features.op import Op, Origin
from recis_core.ragged import RaggedTensor

Function = Callable[[Any], Any]
_REGISTERED: dict[tuple[str, int], Function] = {}


def register_function(name: str, function: Function, version: int = 1) -> None:
    """Let `Custom(name, version)` and definitions that hold it find a function.

    Raises:
      ValueError: the name and version are another function's already.
    """
    key = as_text(name, "name"), as_whole(version, "version")
    _check_callable(function)
    if _REGISTERED.get(key, function) is not function:
        raise ValueError(
            f"function {name!r}, version {version}, is registered already. Raise the version of a changed one."
        )
    _REGISTERED[key] = function


@dataclass(frozen=True, eq=False, repr=False)
class Custom(Op):
    """function(column), or function([columns]) after SelectFields: a tensor or RaggedTensor to another.

    A definition, its digest and its file hold name and version, not the function: whoever loads them registers it
    (`register_function`) or passes it (`from_dict(…, functions={(name, version): function})`). Raise the version whenever
    the function's results change.

    Raises:
      KeyError: no function is given, and none is registered. RuntimeError, when run: the function changed its input.
    """

    name: str
    version: int = 1
    function: Function | None = None

    def __post_init__(self) -> None:
        key = as_text(self.name, "name"), as_whole(self.version, "version")
        function = self.function if self.function is not None else _REGISTERED.get(key)
        if function is None:
            raise KeyError(
                f"there is no function {self.name!r}, version {self.version}. Register it by register_function({self.name!r}, "
                f"function, version={self.version}), or pass functions={{({self.name!r}, {self.version}): function}}."
            )
        _check_callable(function)
        self._set(function=function)

    def __reduce__(self) -> Any:
        """A registered function is pickled by its name and version, any other as Python pickles functions."""
        if _REGISTERED.get((self.name, self.version)) is self.function:
            return Custom, (self.name, self.version)
        holder = sys.modules.get(getattr(self.function, "__module__", ""))
        if getattr(holder, getattr(self.function, "__qualname__", ""), None) is not self.function:
            raise pickle.PicklingError(
                f"function {self.name!r} is no function of a module, so it cannot be pickled. Register it, here and where it is "
                f"loaded: register_function({self.name!r}, function, version={self.version})."
            )
        return Custom, (self.name, self.version, self.function)

    def __copy__(self) -> Custom:
        return self

    def __deepcopy__(self, memo: Any) -> Custom:
        return self

    def arguments(self) -> dict[str, Any]:
        return {"name": self.name, "version": self.version}

    def written(self, folder: Path) -> dict[str, Any]:
        return self.arguments() if self.version != 1 else {"name": self.name}

    @classmethod
    def _completed(cls, arguments: Mapping[str, Any], origin: Origin) -> dict[str, Any]:
        key = arguments["name"], arguments.get("version", 1)
        return {**arguments, "function": origin.functions.get(key)}

    def check(self, value: Any) -> None:
        """Takes what the function takes."""

    @classmethod
    def run(cls, ops: Sequence[Custom], values: Sequence[Any]) -> list[Any]:
        return [op._called(value) for op, value in zip(ops, values, strict=True)]

    def _called(self, value: Any) -> Any:
        tensors = _tensors(value)
        before = [_version_of(tensor) for tensor in tensors]
        result = self.function(value)  # type: ignore[misc]
        if before != [_version_of(tensor) for tensor in tensors]:
            raise RuntimeError(
                f"function {self.name!r} changed its input in place; other features use it. Copy it first."
            )
        if not isinstance(result, Tensor | RaggedTensor | list | dict):
            raise TypeError(f"function {self.name!r} must give a tensor or RaggedTensor; got {type(result).__name__}.")
        return result


def _check_callable(function: Any) -> None:
    if not callable(function):
        raise TypeError(f"function must be callable; got {function!r}.")


def _version_of(tensor: Tensor) -> int:
    """How often it was changed; tensors made in inference mode do not count."""
    return 0 if tensor.is_inference() else tensor._version


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, RaggedTensor):
        weight = value.weight()
        return [value.values(), *value.offsets(), *([] if weight is None else [weight])]
    if isinstance(value, list):
        return [tensor for item in value for tensor in _tensors(item)]
    return []
