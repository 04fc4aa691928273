"""A class of which a process has one object."""

from __future__ import annotations

from typing import Any


class SingletonMeta(type):
    """Calling the class gives its one object, which the first call makes."""

    _objects: dict[type, Any] = {}  # noqa: RUF012, one for all classes is meant

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls not in SingletonMeta._objects:
            SingletonMeta._objects[cls] = super().__call__(*args, **kwargs)
        return SingletonMeta._objects[cls]
