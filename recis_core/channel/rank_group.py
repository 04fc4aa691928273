"""Our process group beside the user's: every agreement and every message between ranks travels over it.

All engines on one process group share one RankGroup. So ranks that are in different calls, even of different engines,
still meet: the first message of every call has the same shape (agreement.py).

Sizes: W ranks.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor

from recis_core.backends.errors import ExchangeFailed
from recis_core.channel.notes import LEFT, WAITS, Note, Notes
from recis_core.process import generation, refuse_in_child, refuse_to_pickle
from recis_core.uninterrupted import deliver_waiting

TIMEOUT = "RECIS_EXCHANGE_TIMEOUT"
SLICE = timedelta(seconds=0.2)  # of a wait; signals are looked for between slices
PATIENCE = 5.0  # seconds of a wait, after which it handles signals and reads other ranks' notes
LOOK = 2.0  # seconds between readings of notes
LAST_WORDS = 1.5  # seconds that other failing ranks have to write where they wait
ADVICE = (
    "Ranks with unequal data stay in step by recis_core.exchange.in_step. What was on its way is lost: Restart from "
    "the last checkpoint (torchrun --max-restarts does)."
)


def timeout() -> float:
    """Seconds to wait for another rank."""
    return float(os.environ.get(TIMEOUT, "600"))


def world_size(pg: Any = None) -> int:
    """Ranks of the group; 1 where torch.distributed is not running."""
    return dist.get_world_size(pg) if dist.is_available() and dist.is_initialized() else 1


def world_rank(pg: Any = None) -> int:
    """This process's place in the group; 0 where torch.distributed is not running."""
    return dist.get_rank(pg) if dist.is_available() and dist.is_initialized() else 0


class RankGroup:
    """Making one is collective over the job's ranks. destroy_process_group() ends it.

    calls: agreements so far. width: how many counts one agreement has room for. engines: engines made on this group.
    started: collectives so far, equal on all ranks between calls.
    wish: a number that this rank adds to its next agreement. largest_wish: of all ranks so far, equal on all ranks
    between calls.
    """

    def __init__(self, ranks: Sequence[int]) -> None:
        self.ranks, self.rank, self.size = list(ranks), list(ranks).index(dist.get_rank()), len(ranks)
        self.timeout = timedelta(seconds=timeout())
        self.calls, self.width, self.engines, self.started = 0, 1, 0, 0
        self.wish = self.largest_wish = 0
        self._broken: str | None = None
        group = _joined(ranks, self.timeout)
        # Weak, so that destroy_process_group() ends the group, and other ranks learn at once that this one has left.
        self._group = weakref.ref(group)
        self.device = torch.device("cuda" if dist.get_backend(group) == "nccl" else "cpu")
        self.notes = Notes(dist.distributed_c10d._get_default_store(), group.group_name, self.rank)
        self.notes.join(group)
        self._made = generation()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        refuse_to_pickle("an exchange between ranks")

    @property
    def group(self) -> Any:
        """Raises ExchangeFailed after the group has ended or broken off, RecisError in a forked child."""
        if self._made != generation():
            refuse_in_child("this exchange between ranks", self._made)
        if self._broken is not None:
            raise ExchangeFailed(f"the exchange between ranks broke off earlier: {self._broken} {ADVICE}")
        group = self._group()
        if group is None:
            raise ExchangeFailed(
                "this rank has left the exchange: its process group was destroyed. Destroy it after the last call of "
                "engines and optimizers, or build the engine anew after init_process_group()."
            )
        return group

    def another(self, ranks: Sequence[int]) -> Any:
        """A process group of some of the ranks. Collective over the job."""
        return _joined(ranks, self.timeout)

    @property
    def alive(self) -> bool:
        return self._group() is not None

    def swap_lines(self, lines: Tensor) -> Tensor:
        """Row p of int64 [W, C] to rank p; row p of the result came from rank p. On the CPU. Inside a section."""
        mine = lines.to(self.device)
        theirs = torch.empty_like(mine)
        self.wait(self.start(dist.all_to_all_single, theirs, mine))
        return theirs.cpu()

    def start(self, collective: Callable[..., Any], *args: Any, group: Any = None) -> Any:
        ours = self.group
        self.started += 1
        self.notes.begun = self.started
        try:
            return collective(*args, group=ours if group is None else group, async_op=True)
        except (RuntimeError, ValueError) as error:
            self._break_off(error)

    def wait(self, work: Any) -> None:
        """Raises ExchangeFailed if the collective breaks off. A long wait runs signal handlers and raises what they raise."""
        try:
            if self.device.type == "cpu":
                self._wait_in_slices(work)
            else:
                work.wait()
        except RuntimeError as error:
            self._break_off(error)
        except BaseException as error:
            self.break_off(f"it was interrupted by {type(error).__name__} while it waited for other ranks")
            raise

    def _wait_in_slices(self, work: Any) -> None:
        start = looked = time.monotonic()
        while True:
            try:
                work.wait(SLICE)
                return
            except RuntimeError:
                if work.is_completed():
                    work.wait()
                    return
            now = time.monotonic()
            if now - start >= PATIENCE:
                deliver_waiting()
            if now - start >= PATIENCE and now - looked >= LOOK:
                looked = now
                self._require_no_deserter()

    def _require_no_deserter(self) -> None:
        """A rank that left after it had sent its part of this collective is no deserter."""
        notes = self.notes.of(self._others()) or {}
        if any(note.kind == LEFT and note.begun < self.started for note in notes.values()):
            raise RuntimeError("another rank has left, as it wrote into the store")

    def break_off(self, why: str) -> None:
        """This rank has agreed to a call and could not do its part: it takes part in no further one."""
        if self._broken is None:
            self._broken = f"this rank broke off {self.notes.place}: {why}."
            self.notes.leave(f"it broke off: {why}")

    def _break_off(self, error: Exception) -> NoReturn:
        """Raises ExchangeFailed, naming which rank waits for which; its cause is the transport's error."""
        self.notes.wait_in_vain()
        place, who = self.notes.place, self._who_is_missing(error)
        self._broken = self._broken or f"in {place}, {who}"
        raise ExchangeFailed(f"rank {self.rank}'s exchange broke off in {place}: {who} {ADVICE}") from error

    def _others(self) -> list[int]:
        return [p for p in range(self.size) if p != self.rank]

    def _who_is_missing(self, error: Exception) -> str:
        notes = self._last_words()
        if notes is None:
            return f"the rank that keeps the store (rank 0 without torchrun) left or died{self._after(error)}."
        words = [f"rank {p} left: {note.text}" for p, note in notes.items() if note.kind == LEFT]
        silent = [p for p in self._others() if p not in notes]
        if silent:
            words.append(
                f"{_named(silent)} left without a word (killed, or ended at once), or did not come{self._after(error)}"
            )
        waits = [f"rank {p} waits in {note.text}" for p, note in notes.items() if note.kind == WAITS]
        return "; ".join([*words, *waits]) + "."

    def _after(self, error: Exception) -> str:
        late = "imed out" in str(error) or "imeout" in str(error)
        return f" within {self.timeout.total_seconds():g} s ({TIMEOUT})" if late else ", and its connection is closed"

    def _last_words(self) -> dict[int, Note] | None:
        """The other ranks' notes. Ranks that fail at the same time need a moment to write theirs."""
        end = time.monotonic() + LAST_WORDS
        while True:
            notes = self.notes.of(self._others())
            if notes is None or len(notes) == self.size - 1 or time.monotonic() > end:
                return notes
            time.sleep(0.1)


def _named(ranks: list[int]) -> str:
    return f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {', '.join(map(str, ranks))}"


def _joined(ranks: Sequence[int], limit: timedelta) -> Any:
    try:
        return dist.new_group(list(ranks), timeout=limit)
    except (RuntimeError, ValueError) as error:
        raise ExchangeFailed(
            f"ranks {list(ranks)} could not join a process group for the exchange within {limit.total_seconds():g} s "
            f"({TIMEOUT}): one has died, left, or never came here. Every rank makes the same engines in one order."
        ) from error


_groups: weakref.WeakKeyDictionary[Any, RankGroup] = weakref.WeakKeyDictionary()  # by the user's process group


def group_of(parent: Any) -> RankGroup:
    """The group beside a user's process group. The first call makes it, which is collective."""
    group = known_group(parent)
    if group is None:
        group = _groups[parent] = RankGroup(dist.get_process_group_ranks(parent))
    return group


def known_group(parent: Any) -> RankGroup | None:
    group = _groups.get(parent)
    return group if group is not None and group.alive else None
