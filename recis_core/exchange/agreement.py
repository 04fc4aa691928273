"""Before any payload moves, all ranks say which call they are in; all go on, or all raise.

The first message of every collective is one line of int64 from each rank to each other: kind of call, its number, the
engine's number, a digest, whether this rank failed; then counts for the one it is sent to; at the end what it wishes
(channel.wish), which is no part of the call. The line has one width for all calls of all engines on a process group, so
that ranks in different calls still meet.

Every rank reads every other's line. So after an ExchangeMismatch all have made equally many agreements, and a refused
call has changed no number that decides whether a later one communicates: ranks go on from there as if it had not been.

Sizes: W ranks, C counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import torch
import xxhash
from torch import Tensor

from recis_core.backends.errors import ExchangeFailed, ExchangeMismatch
from recis_core.uninterrupted import uninterrupted

if TYPE_CHECKING:
    from recis_core.exchange.channel import Channel
    from recis_core.exchange.world import Swap, World

CALLS = {
    "engine": "making an engine or a table",
    "plan": "making an engine or a table (its plan)",
    "forward": "a training forward",
    "eval": "a forward in eval",
    "rows": "a forward (its rows)",
    "flags": "asking whether gradients are finite (unscale, a handle's .grad)",
    "sync": "the exchange of gradients (step, clip_grad_norm_ or sync_gradients)",
    "gradients": "sending gradients (step, clip_grad_norm_ or sync_gradients)",
    "norm": "step",
    "clip": "clip_grad_norm_ (or another norm of gradients)",
    "step": "step, without a gradient",
    "hot rows": "choosing hot rows (a forward)",
    "refresh": "refreshing hot rows (a forward)",
    "digest": "tables_sha256",
    "state_dict": "a full state_dict (get_model_state_dict)",
    "pending": "a snapshot of tables (snapshot_tables)",
    "save": "save_shared_state",
    "latest": "latest_shared_state",
    "load": "load_tables (of load_model, or alone)",
    "load_model": "load_model",
    "resume": "loading a saved state",
    "load_state_dict": "load_state_dict of a table",
    "clear": "clear() of a table",
    "len": "len() of a table",
    "lookup": "lookup() of a table, or `in` it",
    "erase": "erase() of a table",
    "in_step": "in_step",
    "global_mean": "global_mean",
    "gather": "gathering results",
    "log": "the log of a training loop",
    "evaluate": "evaluate",
    "report": "the report at the end of a run",
}
KINDS = tuple(CALLS)
HEAD = 5


def digest(*parts: object) -> int:
    """int64 of what ranks must agree on."""
    return xxhash.xxh3_64_intdigest(repr(parts).encode()) >> 1


class Agreement:
    """One engine's calls over a channel; engine 0 is none.

    sent: bytes by kind, to which lines are added. calls: agreements so far.
    """

    def __init__(self, channel: Channel, sent: Counter[str], engine: int = 0) -> None:
        self.channel, self.sent, self.engine, self.calls = channel, sent, engine, 0

    def open_engine(self, width: int) -> None:
        """Number the engine whose plan all ranks have agreed on; it says up to `width` counts."""
        channel = self.channel
        channel.engines, channel.width = channel.engines + 1, max(channel.width, width)
        self.engine = channel.engines

    def meet(
        self,
        kind: str,
        said: int = 0,
        counts: Tensor | None = None,
        error: BaseException | None = None,
        here: Callable[[], str] = str,
    ) -> Tensor:
        """Say where this rank is, hear where the others are.

        Args:
          kind: one of KINDS. said: digest of what the call is about. counts: int64 [W, c ≤ C], row p for rank p.
          error: what went wrong here before the call; the others then raise.
          here: words for what `said` is of, for the error.

        Returns:
          int64 [W, c]: row p is what rank p counted for this one.

        Raises:
          ExchangeMismatch: on every rank, where calls differ or another rank failed.
          ExchangeFailed: a rank has left or died.
        """
        channel = self.channel
        self.calls, channel.calls = self.calls + 1, channel.calls + 1
        channel.notes.place = f"call {channel.calls}, {CALLS[kind]}"
        head = torch.tensor([KINDS.index(kind), channel.calls, self.engine, said, int(error is not None)])
        line = torch.zeros(channel.size, HEAD + channel.width + 1, dtype=torch.int64)
        line[:, :HEAD], line[:, -1] = head, channel.wish
        if counts is not None:
            line[:, HEAD : HEAD + counts.shape[1]] = counts
        theirs = channel.swap_lines(line)
        channel.heard = max(channel.heard, int(theirs[:, -1].max()))
        self.sent["header"] += line[0].nbytes * (channel.size - 1)
        if error is None and not torch.equal(theirs[:, :HEAD], line[:, :HEAD]):
            self._refuse(theirs[:, :HEAD].tolist(), here)
        return theirs[:, HEAD : HEAD + (0 if counts is None else counts.shape[1])]

    def _refuse(self, lines: list[list[int]], here: Callable[[], str]) -> NoReturn:
        failed = [p for p, line in enumerate(lines) if line[4]]
        if failed:
            where = "; ".join(f"rank {p} in {_call(lines[p])}" for p in failed)
            error = ExchangeMismatch(
                f"rank(s) {failed} raised an error before this call could move any row; see there ({where}; "
                f"rank {self.channel.rank}, here, in {_call(lines[self.channel.rank])}). "
                "No table was changed here by this call."
            )
            error.failed = failed  # type: ignore[attr-defined]
            raise error
        raise ExchangeMismatch(f"ranks are in different calls: {_calls(lines)}.{_apart(lines, here)}")

    @contextmanager
    def telling(self, kind: str) -> Iterator[None]:
        """What is raised inside is told to the other ranks, which wait in `kind` or another call, before it goes on here."""
        try:
            yield
        except (ExchangeMismatch, ExchangeFailed):
            raise  # which all ranks raise
        except Exception as error:
            self._tell(kind, error)
            raise

    def _tell(self, kind: str, error: Exception) -> None:
        if getattr(error, "_told_ranks", None) is self.channel:
            return
        try:
            self.meet(kind, error=error)
        except ExchangeFailed as failed:
            error.add_note(f"The other ranks could not be told: {failed}")
        error._told_ranks = self.channel  # type: ignore[attr-defined]

    def start(
        self, world: World, kind: str, messages: Sequence[Tensor], lengths: Callable[[Tensor], Sequence[int]], what: str,
        *, said: int = 0, counts: Tensor, here: Callable[[], str] = str,
    ) -> tuple[Tensor, Swap]:  # fmt: skip
        """Meet, then begin to send message p to rank p, of which `lengths` knows by all counts what comes from each.

        After the meeting the others rely on this rank's message: what is raised before it is on its way breaks off
        the exchange.
        """
        theirs = self.meet(kind, said, counts, here=here)
        try:
            return theirs, world.start(messages, lengths(theirs), what)
        except ExchangeFailed:
            raise
        except BaseException as error:
            self.channel.break_off(f"{type(error).__name__} ({error}) before it could send")
            raise

    def swap(self, world: World, *args: Any, **kwargs: Any) -> tuple[Tensor, list[Tensor]]:
        """As start, and wait for what comes."""
        with uninterrupted():
            theirs, under_way = self.start(world, *args, **kwargs)
            return theirs, world.finish(under_way)


def _call(line: Sequence[int]) -> str:
    kind, number, engine = line[:3]
    return f"{CALLS[KINDS[kind]]} (call {number}{f', engine {engine}' if engine else ''})"


def _calls(lines: Sequence[Sequence[int]]) -> str:
    """Ranks by the call they are in; all of them where only the digests differ."""
    by_call: dict[str, list[int]] = {}
    for rank, line in enumerate(lines):
        by_call.setdefault(_call(line), []).append(rank)
    return ", ".join(f"rank{'s' * (len(p) > 1)} {', '.join(map(str, p))} in {call}" for call, p in by_call.items())


def _apart(lines: Sequence[Sequence[int]], here: Callable[[], str]) -> str:
    same_call = len({tuple(line[:3]) for line in lines}) == 1
    what = f" {here()}".rstrip() if same_call else ""
    differs = f" They ask different tables, modes or precisions, or are at different steps.{what}" if same_call else ""
    return (
        f"{differs} Every rank must run the same forwards, steps, norms and saves in one order, in eval too; a rank "
        "without data runs empty batches (recis_core.exchange.in_step). Nothing of this call was done on any rank: "
        "repeat the same call on all, or zero_grad() on all and go on with the next batch."
    )
