"""Which named things of which checkpoints a restore takes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase, translate
from typing import Any

from recis_core.backends.errors import StateMismatch
from recis_core.serialize.checkpoint.checkpoint import Checkpoint, open_checkpoint

ALL = ("*",)


@dataclass(frozen=True)
class CheckpointSource:
    """A checkpoint, or a directory of them, and what to take from it.

    load, exclude: patterns of names in it, as fnmatch has them; a pattern also stands for what is below it: "dense" for all
    parameters. rename: {name or pattern: other}; of patterns with one *, the other's * is what it stands for.
    """

    path: Any
    load: Sequence[str] = ALL
    exclude: Sequence[str] = ()
    rename: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what in ("load", "exclude"):
            patterns = getattr(self, what)
            if isinstance(patterns, str) or not all(isinstance(pattern, str) for pattern in patterns):
                raise TypeError(f'{what} is a list of patterns, such as ["tables/*"]; got {patterns!r:.200}.')
        for old, new in self.rename.items():
            if old.count("*") != new.count("*") or old.count("*") > 1:
                raise ValueError(
                    f"rename maps a name to a name, or a pattern with one * to another; got {old!r}: {new!r}."
                )

    @property
    def everything(self) -> bool:
        return tuple(self.load) == ALL and not self.exclude


@dataclass(frozen=True)
class Taken:
    """A thing of a checkpoint: its name there."""

    checkpoint: Checkpoint
    name: str


@dataclass(frozen=True)
class Chosen:
    """things: by their names here. ignored: chosen names that nothing here has. unused: patterns without any name."""

    things: dict[str, Taken]
    ignored: list[str]


def choose(sources: Iterable[CheckpointSource], mine: Sequence[str]) -> Chosen:
    """Later sources win. Raises StateMismatch for a pattern that no name fits; FileNotFoundError, CorruptCheckpoint."""
    things: dict[str, Taken] = {}
    ignored: list[str] = []
    for source in sources:
        checkpoint = source.path if isinstance(source.path, Checkpoint) else open_checkpoint(source.path)
        names = names_in(checkpoint)
        _require_used(source, checkpoint, names)
        for name in names:
            if not fits(name, source.load) or fits(name, source.exclude):
                continue
            if (here := renamed(name, source.rename)) in mine:
                things[here] = Taken(checkpoint, name)
            else:
                ignored.append(name)
    return Chosen(things, ignored)


def _require_used(source: CheckpointSource, checkpoint: Checkpoint, names: Sequence[str]) -> None:
    for pattern in (*source.load, *source.exclude, *source.rename):
        if pattern != "*" and not any(fits(name, (pattern,)) for name in names):
            some = ", ".join(names)[:300]
            raise StateMismatch(f"{pattern!r} fits no name in {checkpoint.path}; it has {some}.")


def fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) or name.startswith(pattern.rstrip("/") + "/") for pattern in patterns)


def renamed(name: str, rename: Mapping[str, str]) -> str:
    for old, new in rename.items():
        if "*" not in old:
            if name == old:
                return new
            continue
        head, tail = (translate(part).removesuffix(r"\Z").removesuffix(r"\z") for part in old.split("*"))
        if found := re.fullmatch(f"{head}(.*){tail}", name, re.DOTALL):
            return new.replace("*", found[1])
    return name


def names_in(checkpoint: Checkpoint) -> list[str]:
    """The names of all things in a checkpoint, read from its manifest."""
    found = [f"tables/{name}" for name in checkpoint.tables]
    for part in ("dense", "optimizer", "schedulers", "extra"):
        if part in checkpoint.parts:
            found += [f"{part}/{name}" for name in checkpoint.keys(part)]
    own = {name.split(".rank-")[0] for name in checkpoint.parts}
    return found + [name for name in ("data", "random", "features") if name in own]
