"""One state of many ranks in one directory: each rank writes its own parts, the first rank commits.

When all files of all ranks are synced and hashed, the first rank writes the manifest and renames the directory. If one
rank fails, all ranks raise, and no state is left.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from recis_core.backends.errors import CorruptCheckpoint, ExchangeFailed, ExchangeMismatch
from recis_core.channel.channel import Channel
from recis_core.durable import sync_directory
from recis_core.exchange.gathering import gathered_json
from recis_core.serialize.manifest import Head, Written, checked_step
from recis_core.serialize.places import files_of, written_aside
from recis_core.serialize.saved_state import latest_state, split_parts, write_parts
from recis_core.serialize.state_directory import state_name
from recis_core.serialize.store_path import Place, place_of
from recis_core.serialize.table_entry import TableEntry
from recis_core.table.exchange_interface import Exchange


def save_shared_state(
    directory: str | os.PathLike[str] | Place,
    step: int,
    shared: Mapping[str, Any],
    own: Mapping[str, Any],
    exchange: Exchange,
) -> Place:
    """save_state by all ranks of an exchange, into a directory that all of them see. Collective.

    Args:
      shared: parts that are equal on all ranks; the first rank writes them. own: this rank's parts.

    Raises:
      ExchangeMismatch: another rank failed; no state was committed. ExchangeFailed: another rank died.
      On the rank that failed: as save_state.
    """
    rank = exchange.channel.rank
    with exchange.channel.failing_together("save"):
        parts = split_parts(
            {part_of(part, rank): tree for part, tree in own.items()} | dict(shared if rank == 0 else {})
        )

    def write(place: Place) -> RanksPart:
        return RanksPart(write_parts(place, parts))

    into = place_of(directory)
    commit_together(into, checked_step(step), write, lambda ranks: Head(), exchange.channel)
    return into / state_name(step)


@dataclass(frozen=True)
class RanksPart:
    """What one rank wrote: parts, and how its tables lie in them."""

    written: Written
    tables: dict[str, TableEntry] = field(default_factory=dict)


def commit_together(
    directory: Place,
    step: int,
    write: Callable[[Place], RanksPart],
    head: Callable[[list[dict[str, TableEntry]]], Head],
    channel: Channel | None,
) -> str:
    """All ranks write into one directory aside; when all have, the first rank commits. Collective; channel None: one rank.

    write: writes this rank's files into a directory. head: of the manifest, from the tables of all ranks.

    Returns:
      the hash of the manifest, on the first rank; else "".
    """
    if channel is None:
        with written_aside(directory, step) as aside:
            mine = write(aside.files)
            return aside.commit(step, mine.written, head([mine.tables]))
    with ExitStack() as ends:
        with channel.failing_together("save"):
            begun = ends.enter_context(written_aside(directory, step)) if channel.rank == 0 else None
        _meet(channel, step)
        folder = gathered_json(channel, "" if begun is None else begun.folder, kind="save")[0]
        with channel.failing_together("save"):
            mine = _written(files_of(directory, step, folder), write)
        _meet(channel, step)
        sent = [mine.written, {name: asdict(entry) for name, entry in mine.tables.items()}]
        ranks, digest = gathered_json(channel, sent, to=0, kind="save"), ""
        with channel.failing_together("save"):
            if begun is not None:
                tables = [{name: TableEntry(**entry) for name, entry in theirs.items()} for _, theirs in ranks]
                digest = begun.commit(step, {k: v for each, _ in ranks for k, v in each.items()}, head(tables))
        _meet(channel, step)
    return digest


def _meet(channel: Channel, step: int) -> None:
    channel.meet("save", step, here=lambda: f"Here: step {step}.")


def _written(files: Place, write: Callable[[Place], RanksPart]) -> RanksPart:
    if isinstance(files, Path) and not files.is_dir():
        raise FileNotFoundError(
            f"the first rank made {files}, which is not here: --save needs a directory that all ranks see."
        )
    mine = write(files)
    if isinstance(files, Path):
        sync_directory(files)
    return mine


def latest_shared_state(directory: str | os.PathLike[str] | Place, exchange: Exchange) -> Place:
    """latest_state of the first rank, on all ranks. Collective.

    Raises:
      FileNotFoundError, CorruptCheckpoint: on all ranks; see latest_state.
    """
    found: list[str] = []
    if exchange.channel.rank == 0:
        try:
            found = ["", str(latest_state(directory))]
        except (FileNotFoundError, CorruptCheckpoint, OSError) as error:
            found = [type(error).__name__, str(error)]
    kind, text = gathered_json(exchange.channel, found, kind="latest")[0]
    if kind:
        raise {"FileNotFoundError": FileNotFoundError, "CorruptCheckpoint": CorruptCheckpoint}.get(kind, OSError)(text)
    return place_of(text)


@contextmanager
def failing_together(exchange: Exchange | None) -> Iterator[None]:
    """If one rank raises inside, all ranks raise at the end. Collective."""
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
    if exchange is not None:
        try:
            exchange.channel.meet("resume", error=failure)
        except (ExchangeMismatch, ExchangeFailed) as theirs:
            failure = failure or theirs
    if failure is not None:
        raise failure


def part_of(part: str, rank: int) -> str:
    """The name of one rank's own part."""
    return f"{part}.rank-{rank}"


def by_rank(state: Iterable[str], part: str) -> list[str]:
    """The names of all ranks' own parts, in order; a state of one process has one part, without a rank in its name."""
    names = list(state)
    if part in names:
        return [part]
    return [part_of(part, rank) for rank in range(sum(bool(re.fullmatch(rf"{part}\.rank-\d+", n)) for n in names))]
