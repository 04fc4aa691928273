"""One state of many ranks in one directory: each rank writes its own parts, the first rank commits.

When all files of all ranks are synced and hashed, the first rank writes the manifest and renames the directory. If one
rank fails, all ranks raise, and no state is left.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from recis_core.backends.errors import CorruptCheckpoint, ExchangeFailed, ExchangeMismatch
from recis_core.durable import sync_directory
from recis_core.exchange.gathering import gathered_json
from recis_core.serialize.manifest import Written, checked_step
from recis_core.serialize.saved_state import Split, commit, latest_state, split_parts, write_parts
from recis_core.serialize.state_directory import aside_of, saving, state_path
from recis_core.table.exchange_interface import Exchange


def save_shared_state(
    directory: str | Path, step: int, shared: Mapping[str, Any], own: Mapping[str, Any], exchange: Exchange
) -> Path:
    """save_state by all ranks of an exchange, into a directory that all of them see. Collective.

    Args:
      shared: parts that are equal on all ranks; the first rank writes them. own: this rank's parts.

    Raises:
      ExchangeMismatch: another rank failed; no state was committed. ExchangeFailed: another rank died.
      On the rank that failed: as save_state.
    """
    final, rank = state_path(directory, checked_step(step)), exchange.channel.rank
    with ExitStack() as ends:
        with exchange.channel.failing_together("save"):
            parts = split_parts(
                {part_of(part, rank): tree for part, tree in own.items()} | dict(shared if rank == 0 else {})
            )
            if rank == 0:
                ends.enter_context(saving(final))
        _meet(exchange, step)
        with exchange.channel.failing_together("save"):
            written = _write(aside_of(final), parts)
        _meet(exchange, step)
        written_by_rank = gathered_json(exchange.channel, written, to=0, kind="save")
        with exchange.channel.failing_together("save"):
            if rank == 0:
                commit(aside_of(final), final, step, {k: v for each in written_by_rank for k, v in each.items()})
        _meet(exchange, step)
    return final


def _meet(exchange: Exchange, step: int) -> None:
    exchange.channel.meet("save", step, here=lambda: f"Here: step {step}.")


def _write(aside: Path, parts: Split) -> Written:
    if not aside.is_dir():
        raise FileNotFoundError(
            f"the first rank made {aside}, which is not here: --save needs a directory that all ranks see."
        )
    written = write_parts(aside, parts)
    sync_directory(aside)
    return written


def latest_shared_state(directory: str | Path, exchange: Exchange) -> Path:
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
    return Path(text)


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
