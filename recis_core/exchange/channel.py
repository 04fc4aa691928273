"""The process group of ours beside a user's, over which all that ranks agree on and send travels.

Every engine on one process group shares it. So two ranks that are in different calls, of whichever engines, meet in
it, and learn of it by the first message of both calls, which has one shape for all (agreement.py).

Sizes: W ranks.
"""

from __future__ import annotations

import os
import time
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor

from recis_core.backends.errors import ExchangeFailed
from recis_core.exchange.notes import LEFT, WAITS, Note, Notes
from recis_core.process import generation, refuse_in_child, refuse_to_pickle
from recis_core.uninterrupted import deliver_waiting, uninterrupted

TIMEOUT = "RECIS_EXCHANGE_TIMEOUT"
SLICE = timedelta(seconds=0.2)  # of a wait, between which it looks for signals
PATIENCE = 5.0  # seconds of a wait after which signals are handled inside it, and others' notes are read
LOOK = 2.0  # seconds between readings
LAST_WORDS = 1.5  # seconds in which others that fail with this rank may write where they wait
ADVICE = (
    "Ranks with unequal data stay in step by recis_core.exchange.in_step. What was on its way is lost: Restart from "
    "the last checkpoint (torchrun --max-restarts does)."
)


def timeout() -> float:
    """Seconds to wait for another rank."""
    return float(os.environ.get(TIMEOUT, "600"))


class Channel:
    """Making one is collective over the job's ranks. It ends with the group: destroy_process_group() closes it.

    calls: agreements so far. width: counts that a rank says to each other one in one. engines: exchanges made on it.
    started: collectives so far, equal on all ranks between calls.
    wish: a number that this rank tells all with its next agreement. heard: the largest told so far, equal on all ranks
    between calls.
    """

    def __init__(self, ranks: Sequence[int]) -> None:
        self.ranks, self.rank, self.size = list(ranks), list(ranks).index(dist.get_rank()), len(ranks)
        self.timeout = timedelta(seconds=timeout())
        self.calls, self.width, self.engines, self.started = 0, 1, 0, 0
        self.wish = self.heard = 0
        self.sent: Counter[str] = Counter()  # of calls that belong to no engine
        self._broken: str | None = None
        group = _joined(ranks, self.timeout)
        # Weak, so that destroy_process_group() ends it, and the others learn at once that this rank has left.
        self._group = weakref.ref(group)
        self.device = torch.device("cuda" if dist.get_backend(group) == "nccl" else "cpu")
        self.notes = Notes(dist.distributed_c10d._get_default_store(), group.group_name, self.rank)
        self.notes.join(group)
        self._made = generation()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        refuse_to_pickle("an exchange between ranks")

    @property
    def group(self) -> Any:
        """Raises ExchangeFailed where the channel has ended or broken off, RecisError in a forked child."""
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
        """A group of some of the ranks. Collective over the job, like the channel."""
        return _joined(ranks, self.timeout)

    @property
    def alive(self) -> bool:
        return self._group() is not None

    def swap_lines(self, lines: Tensor) -> Tensor:
        """Row p of int64 [W, C] to rank p; row p of the result is what rank p sent here. On the CPU."""
        mine = lines.to(self.device)
        theirs = torch.empty_like(mine)
        self.run(dist.all_to_all_single, theirs, mine)
        return theirs.cpu()

    def run(self, collective: Callable[..., Any], *args: Any, group: Any = None) -> None:
        """Start a collective and wait for it."""
        with uninterrupted():
            self.wait(self.start(collective, *args, group=group))

    def start(self, collective: Callable[..., Any], *args: Any, group: Any = None) -> Any:
        ours = self.group
        self.started += 1
        self.notes.begun = self.started
        try:
            return collective(*args, group=ours if group is None else group, async_op=True)
        except (RuntimeError, ValueError) as error:
            self._break_off(error)

    def wait(self, work: Any) -> None:
        """Raises ExchangeFailed where it breaks off; and what a signal's handler raises, if the wait is long."""
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
        """One that left after it had sent its part of this collective is none."""
        notes = self.notes.of(self._others()) or {}
        if any(note.kind == LEFT and note.begun < self.started for note in notes.values()):
            raise RuntimeError("another rank has left, as it wrote into the store")

    def break_off(self, why: str) -> None:
        """This rank can take part no more: what it agreed to it has not done."""
        if self._broken is None:
            self._broken = f"this rank broke off {self.notes.place}: {why}."
            self.notes.leave(f"it broke off: {why}")

    def _break_off(self, error: Exception) -> NoReturn:
        """Raises ExchangeFailed that says which rank waits for which; the transport's error is its cause."""
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
        said = [f"rank {p} left: {note.text}" for p, note in notes.items() if note.kind == LEFT]
        silent = [p for p in self._others() if p not in notes]
        if silent:
            said.append(
                f"{_named(silent)} left without a word (killed, or ended at once), or did not come{self._after(error)}"
            )
        waits = [f"rank {p} waits in {note.text}" for p, note in notes.items() if note.kind == WAITS]
        return "; ".join([*said, *waits]) + "."

    def _after(self, error: Exception) -> str:
        late = "imed out" in str(error) or "imeout" in str(error)
        return f" within {self.timeout.total_seconds():g} s ({TIMEOUT})" if late else ", and its connection is closed"

    def _last_words(self) -> dict[int, Note] | None:
        """Of the others; those that fail too need a moment to write."""
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


_channels: weakref.WeakKeyDictionary[Any, Channel] = weakref.WeakKeyDictionary()  # by the user's process group


def channel_of(parent: Any) -> Channel:
    """The channel beside a process group; made with the first, which is collective."""
    channel = known_channel(parent)
    if channel is None:
        channel = _channels[parent] = Channel(dist.get_process_group_ranks(parent))
    return channel


def known_channel(parent: Any) -> Channel | None:
    channel = _channels.get(parent)
    return channel if channel is not None and channel.alive else None
