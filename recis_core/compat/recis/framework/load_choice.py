"""Which parts of a checkpoint a model bank's entry loads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PARTS = ("sparse", "dense", "extra", "sparse_opt", "io_state")


@dataclass(frozen=True)
class LoadChoice:
    """strict: whether the dense model must have the same names."""

    sparse: bool
    dense: bool
    extra: bool
    sparse_opt: bool
    io_state: bool
    strict: bool

    @classmethod
    def of(cls, conf: Mapping[str, Any]) -> LoadChoice:
        """load: parts, by default "*", all; exclude: parts of these that are not. io_state goes with extra.

        Raises:
          ValueError: a part is unknown.
        """
        loads, excludes = _parts(conf.get("load", ["*"])), _parts(conf.get("exclude", []))
        chosen = {part: part in loads and part not in excludes for part in PARTS}
        chosen["io_state"] &= chosen["extra"]
        return cls(**chosen, strict=bool(conf.get("strict", True)))


def _parts(given: Any) -> set[str]:
    unknown = [part for part in given if part not in (*PARTS, "*")]
    if isinstance(given, str) or unknown:
        raise ValueError(f"load and exclude are lists of *, {', '.join(PARTS)}; got {given!r}.")
    return set(PARTS) if "*" in given else set(given)
