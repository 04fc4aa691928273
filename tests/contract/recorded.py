"""A backend that writes down which stages ran, so that a skip cannot hide one."""

from __future__ import annotations

from typing import Any

from recis_core.backends import Backend

STAGES = (
    "create", "add_slots", "partition", "lookup", "gather", "pool", "pool_grad", "embed", "embed_grad", "gradient",
    "combine", "read_gradient", "measure", "update", "encode", "decode", "pack_ids", "unpack_ids", "select_rows",
    "renumber", "without", "read_rows", "write_rows", "read_slot", "write_slot", "erase", "marks",
    "keys_from", "rows_by_table", "export", "export_parts", "export_later", "restore", "counters", "programs",
)  # fmt: skip
RAN: dict[str, set[str]] = {}


class Recorded:
    """Passes everything on to `backend`."""

    def __init__(self, name: str, backend: Backend) -> None:
        self.name, self.backend = name, backend
        RAN.setdefault(name, set())

    def __getattr__(self, stage: str) -> Any:
        if stage in STAGES:
            RAN[self.name].add(stage)
        return getattr(self.backend, stage)
