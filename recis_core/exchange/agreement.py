"""Before any payload moves, all ranks say which call they are in; all go on, or all raise.

Each rank sends each other one line of int64: kind of call, its number, its digest, whether this rank
failed; then counts for the one it is sent to. The line has one width for all kinds, so that ranks in different calls
still meet.

Sizes: W ranks, C counts.
"""

from __future__ import annotations

import torch
import xxhash
from torch import Tensor

from backends.errors import ExchangeMismatch
from recis_core.exchange.world import World

KINDS = ("forward", "rows", "flags", "gradients", "norm", "hot rows", "snapshot", "refresh", "plan")
HEAD = 4


def digest(*parts: object) -> int:
    """int64 of what ranks must agree on."""
    return xxhash.xxh3_64_intdigest(repr(parts).encode()) >> 1


class Agreement:
    """Lines of one width over a world.

    Args:
      width: C, the most counts that a call sends to one rank.
    """

    def __init__(self, world: World, width: int) -> None:
        self.world, self.width, self.calls = world, width, 0

    def meet(
        self, kind: str, said: int = 0, counts: Tensor | None = None, error: BaseException | None = None
    ) -> Tensor:
        """Say where this rank is, hear where the others are.

        Args:
          kind: one of KINDS. said: digest of what the call is about. counts: int64 [W, c ≤ C], row p for rank p.
          error: what went wrong here before the call; the others then raise.

        Returns:
          int64 [W, c]: row p is what rank p counted for this one.

        Raises:
          ExchangeMismatch: on every rank, where calls differ or another rank failed.
        """
        self.calls += 1
        head = torch.tensor([KINDS.index(kind), self.calls, said, int(error is not None)])
        line = torch.zeros(self.world.size, HEAD + self.width, dtype=torch.int64)
        line[:, :HEAD] = head
        if counts is not None:
            line[:, HEAD : HEAD + counts.shape[1]] = counts
        theirs = self.world.swap_counts(line)
        if error is None:
            self._compare(theirs[:, :HEAD])
        return theirs[:, HEAD : HEAD + (0 if counts is None else counts.shape[1])]

    def _compare(self, heads: Tensor) -> None:
        failed = heads[:, 3].nonzero().flatten().tolist()
        if failed:
            raise ExchangeMismatch(
                f"rank(s) {failed} raised an error before this call could move any row; see there. "
                "No table was changed here by this call."
            )
        if bool((heads[:, :3] == heads[0, :3]).all()):
            return
        where = ", ".join(f"rank {p} in {KINDS[kind]} call {n}" for p, (kind, n, _, _) in enumerate(heads.tolist()))
        apart = "" if len(set(heads[:, 2].tolist())) == 1 else " They ask different tables, modes or precisions."
        raise ExchangeMismatch(
            f"ranks are in different calls: {where}.{apart} Every rank must run the same forwards, steps, norms and "
            "saves in one order, in eval too; a rank without data runs empty batches (recis_core.exchange.in_step)."
        )
