"""The checkpoints of an output directory, by the lines of its file `checkpoint`."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from recis_core.durable import sync_directory

LIST = "checkpoint"


@dataclass(frozen=True)
class CheckpointNames:
    """max_keep: how many stay; older ones go when one is published."""

    folder: Path
    max_keep: int

    def path(self, name: str) -> Path:
        return self.folder / name

    def aside(self, name: str) -> Path:
        """Where a checkpoint is written before it is published."""
        return self.folder / f".{name}.writing"

    def names(self) -> list[str]:
        """From the oldest to the newest."""
        file = self.folder / LIST
        return file.read_text().split() if file.exists() else []

    def newest(self) -> str | None:
        return (self.names() or [None])[-1]  # type: ignore[list-item]

    def publish(self, name: str) -> None:
        """Give what lies aside its name, in place of one that has it; list it last; drop the oldest."""
        old = self.folder / f".{name}.old"
        shutil.rmtree(old, ignore_errors=True)
        if self.path(name).exists():
            self.path(name).rename(old)
        self.aside(name).rename(self.path(name))
        listed = [*(other for other in self.names() if other != name), name]
        kept = listed[-max(self.max_keep, 1) :]
        self._write(kept)
        for gone in (old, *(self.path(other) for other in listed if other not in kept)):
            shutil.rmtree(gone, ignore_errors=True)

    def _write(self, names: list[str]) -> None:
        aside = self.folder / f".{LIST}.writing"
        with open(aside, "w") as file:
            file.write("".join(f"{name}\n" for name in names))
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self.folder / LIST)
        sync_directory(self.folder)
