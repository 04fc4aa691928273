"""One engine's channel: ranks agree on a call, send to each other, and fail together.

Sizes: W ranks, C counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
import xxhash
from torch import Tensor

from recis_core.backends.errors import ExchangeFailed, ExchangeMismatch
from recis_core.channel.agreement import CALLS, HEAD, KINDS, disagreement
from recis_core.channel.hops import Hops
from recis_core.channel.rank_group import group_of, known_group
from recis_core.uninterrupted import as_one

Finish = Callable[[], list[Tensor]]  # waits for what was sent here: one message from each rank


def digest(about: object) -> int:
    """int64 of what must be alike on all ranks."""
    return xxhash.xxh3_64_intdigest(repr(about).encode()) >> 1


class Channel:
    """Each engine has one; channels on one process group share its RankGroup, which the first makes. That is collective.

    parent: the user's process group. device: where messages are.
    calls: agreements so far. engine: its number, 0 for calls that belong to no engine. sent: bytes to other ranks by kind.

    A rank that never comes, or dies, is an ExchangeFailed on the others after RECIS_EXCHANGE_TIMEOUT seconds (600).
    """

    def __init__(self, parent: Any) -> None:
        self.parent, self.group = parent, group_of(parent)
        self.rank, self.size, self.device = self.group.rank, self.group.size, self.group.device
        self.sent: Counter[str] = Counter()
        self.engine = self.calls = 0
        self.hops: Hops | None = None

    def open_engine(self, width: int) -> None:
        """Number the engine, once all ranks have agreed on its plan. width: most counts of one agreement."""
        group = self.group
        group.engines, group.width = group.engines + 1, max(group.width, width)
        self.engine = group.engines

    @as_one
    def meet(
        self,
        kind: str,
        about: object = None,
        counts: Tensor | None = None,
        error: BaseException | None = None,
        here: Callable[[], str] = str,
    ) -> Tensor:
        """Agree with all ranks that this call is the one to make now.

        Args:
          kind: one of KINDS. about: what must be alike on all ranks. counts: int64 [W, c ≤ C], row p for rank p.
          error: what went wrong here before the call; the others then raise.
          here: words for `about`, for the error.

        Returns:
          int64 [W, c]: row p holds rank p's counts for this rank.

        Raises:
          ExchangeMismatch: on every rank, where calls differ or another rank failed.
          ExchangeFailed: a rank has left or died.
        """
        return self._meet(kind, about, counts, error, here)

    def _meet(
        self, kind: str, about: object, counts: Tensor | None, error: BaseException | None, here: Callable[[], str]
    ) -> Tensor:
        group, width = self.group, 0 if counts is None else counts.shape[1]
        self.calls, group.calls = self.calls + 1, group.calls + 1
        group.notes.place = f"call {group.calls}, {CALLS[kind]}"
        head = torch.tensor([KINDS.index(kind), group.calls, self.engine, digest(about), int(error is not None)])
        line = torch.zeros(self.size, HEAD + group.width + 1, dtype=torch.int64)
        line[:, :HEAD], line[:, -1] = head, group.wish
        if counts is not None:
            line[:, HEAD : HEAD + width] = counts
        theirs = group.swap_lines(line)
        group.largest_wish = max(group.largest_wish, int(theirs[:, -1].max()))
        self.sent["header"] += line[0].nbytes * (self.size - 1)
        if error is None and not torch.equal(theirs[:, :HEAD], line[:, :HEAD]):
            raise disagreement(theirs[:, :HEAD].tolist(), self.rank, here)
        return theirs[:, HEAD : HEAD + width]

    @contextmanager
    def failing_together(self, kind: str) -> Iterator[None]:
        """An error inside is raised here, and makes the other ranks raise, too, in `kind` or in whatever call they wait."""
        try:
            yield
        except (ExchangeMismatch, ExchangeFailed):
            raise  # all ranks raise these
        except Exception as error:
            self._fail_others(kind, error)
            raise

    def _fail_others(self, kind: str, error: Exception) -> None:
        if getattr(error, "_failed_group", None) is self.group:
            return
        try:
            self.meet(kind, error=error)
        except ExchangeFailed as failed:
            error.add_note(f"The other ranks could not be told: {failed}")
        error._failed_group = self.group  # type: ignore[attr-defined]

    @as_one
    def start(
        self, kind: str, messages: Sequence[Tensor], lengths: Callable[[Tensor], Sequence[int]], what: str,
        *, about: object = None, counts: Tensor | None = None, here: Callable[[], str] = str,
    ) -> tuple[Tensor, Finish]:  # fmt: skip
        """Meet, then begin to send uint8 message p to rank p.

        After the meeting the others rely on this rank's message: an error before it is under way breaks off the group.

        Args:
          lengths: from what `meet` returns to the number of bytes that come from each rank. what: their name in `sent`.

        Returns:
          (what `meet` returns, finish): finish() waits for what each rank sends here; a second call gives the same.
        """
        return self._start(kind, messages, lengths, what, about, counts, here)

    @as_one
    def swap(
        self, kind: str, messages: Sequence[Tensor], lengths: Callable[[Tensor], Sequence[int]], what: str,
        *, about: object = None, counts: Tensor | None = None, here: Callable[[], str] = str,
    ) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
        """As start, and wait."""
        theirs, finish = self._start(kind, messages, lengths, what, about, counts, here)
        return theirs, finish()

    def _start(
        self, kind: str, messages: Sequence[Tensor], lengths: Callable[[Tensor], Sequence[int]], what: str,
        about: object, counts: Tensor | None, here: Callable[[], str],
    ) -> tuple[Tensor, Finish]:  # fmt: skip
        theirs = self._meet(kind, about, counts, None, here)
        try:
            return theirs, self._send(messages, lengths(theirs), what)
        except ExchangeFailed:
            raise
        except BaseException as error:
            self.group.break_off(f"{type(error).__name__} ({error}) before it could send")
            raise

    def _send(self, messages: Sequence[Tensor], lengths: Sequence[int], what: str) -> Finish:
        self.sent[what] += sum(len(m) for p, m in enumerate(messages) if p != self.rank)
        if self.hops is not None:
            arrived = self.hops.swap(messages).split(list(lengths))
            return lambda: list(arrived)
        mine = torch.cat(list(messages)).to(self.device)
        theirs = torch.empty(sum(lengths), dtype=torch.uint8, device=self.device)
        splits = list(lengths), [len(m) for m in messages]
        under_way = [(self.group.start(dist.all_to_all_single, theirs, mine, *splits), mine)]  # keeps `mine` alive

        def finish() -> list[Tensor]:
            if under_way:
                self.group.wait(under_way[0][0])
                under_way.clear()
            return list(theirs.split(splits[0]))

        return finish


def open_channel(pg: Any = None, *, hierarchical: bool = False) -> Channel:
    """A channel for one engine. Collective over the group.

    Args:
      pg: whose ranks; None is the default group.
      hierarchical: exchange inside a node first, then between nodes, so that a link between nodes carries few large
        messages. A node is LOCAL_WORLD_SIZE consecutive ranks.
    """
    channel = Channel(dist.group.WORLD if pg is None else pg)
    with channel.failing_together("engine"):
        # Before the meeting, for it may refuse the ranks, and a rank that leaves while others join a group breaks that off.
        nodes = Hops.nodes_of(channel.group.ranks) if hierarchical else None
    channel.meet("engine", nodes)
    channel.hops = None if nodes is None else Hops(channel.group, nodes)
    return channel


def sum_over_ranks(kind: str, number: Tensor, pg: Any = None) -> int:
    """Σ of a 0-d int64. Collective; kind: of which call, one of agreement.KINDS.

    It travels over our group beside pg. A pg that is not the whole job, and has no engine, has no such group: making one
    takes the whole job.
    """
    parent = dist.group.WORLD if pg is None else pg
    if parent is not dist.group.WORLD and known_group(parent) is None:
        device = "cuda" if dist.get_backend(parent) == "nccl" else "cpu"
        total = number.to(device, torch.int64).reshape(1).clone()
        dist.all_reduce(total, group=parent)
        return int(total)
    channel = Channel(parent)
    counts = number.cpu().long().reshape(1, 1).expand(channel.size, 1)
    return int(channel.meet(kind, counts=counts).sum())
