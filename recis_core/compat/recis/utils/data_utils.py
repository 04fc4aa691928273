"""Batches on a device."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any


def copy_data_to_device(data: Any, device: Any, *args: Any, **kwargs: Any) -> Any:
    """The same nest of named tuples, lists, tuples, mappings and dataclasses; what has `to` is moved, the rest stays."""

    def moved(part: Any) -> Any:
        return copy_data_to_device(part, device, *args, **kwargs)

    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*map(moved, data))
    if isinstance(data, list | tuple):
        return type(data)(map(moved, data))
    if isinstance(data, defaultdict):
        return type(data)(data.default_factory, {key: moved(part) for key, part in data.items()})
    if isinstance(data, Mapping):
        return type(data)({key: moved(part) for key, part in data.items()})  # type: ignore[call-arg]
    if hasattr(data, "to"):
        return data.to(device, *args, **kwargs)
    if is_dataclass(data) and not isinstance(data, type):
        made = type(data)(**{f.name: moved(getattr(data, f.name)) for f in fields(data) if f.init})
        for f in (f for f in fields(data) if not f.init):
            setattr(made, f.name, moved(getattr(data, f.name)))
        return made
    return data
