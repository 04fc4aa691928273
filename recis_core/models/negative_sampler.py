"""Negatives: ids drawn from a table's rows by frequency.

Sizes: n ids drawn, B ids of a batch, R rows on this rank, W ranks.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recis_core.exchange.gathering import gathered
from recis_core.models.candidates import Candidates
from recis_core.models.frequencies import ExactFrequency, Frequency
from recis_core.nn import HashTable


@dataclass(frozen=True)
class Negatives:
    """ids: int64 [n], on the table's device; an id may come again. log_q: float32 [n], log of the probability of each draw."""

    ids: Tensor
    log_q: Tensor


class NegativeSampler:
    """Draws ids that have a row, with replacement, each with probability q(id) ∝ share(id)^alpha.

    A draw sees rows that came up to `refresh` draws before; rows that were erased or evicted are never drawn. Draws are a
    function of seed, the number of the draw, the rows, and the ids counted.

    With several ranks every method is collective. Each rank draws among the rows that it holds, in proportion to the ranks'
    sums of share^alpha, and all ranks get all of the ids, the same ones: q is over the rows of all ranks, and a rank keeps
    the list of its own rows only. Frequencies are counted over all ranks' batches, and kept on each. Other numbers of ranks
    draw other ids of the same distribution.

    Args:
      table: engine.table("item"), say. alpha: 1 draws by frequency, 0.75 as word2vec, 0 uniformly.
      frequency: ExactFrequency(), or StreamingFrequency() for fixed memory.
      seed: of draws. refresh: draws after which rows are listed and weighed anew, O(R); 1 follows each step of a small table.

    Raises:
      TypeError: table is no HashTable. ValueError: an argument is out of range.

    Mikolov et al. 2013, arXiv:1310.4546 (alpha); Yi et al. 2019, doi:10.1145/3298689.3346996.
    """

    def __init__(
        self,
        table: HashTable,
        *,
        alpha: float = 0.75,
        frequency: Frequency | None = None,
        seed: int = 0,
        refresh: int = 100,
    ) -> None:
        if not isinstance(table, HashTable):
            raise TypeError(f"table must be a HashTable, such as engine.table('item'); got {type(table).__name__}.")
        if not 0 <= alpha < float("inf") or refresh < 1 or seed < 0:
            raise ValueError(
                f"alpha and seed must be 0 or more, refresh at least 1; got {alpha}, {seed} and {refresh}."
            )
        self.table, self.alpha, self.seed, self.refresh = table, alpha, seed, refresh
        self.frequency: Frequency = ExactFrequency() if frequency is None else frequency
        self._candidates = Candidates(table)
        self._draws, self._listed_at = 0, -refresh
        self._log_share = self._sums = torch.zeros(0, dtype=torch.float64)
        self._log_mass = 0.0

    def update(self, ids: Tensor) -> None:
        """Count the ids of a batch, int64 [...]; with several ranks those of all ranks."""
        with self._together():
            self.table.check_ids(ids)
            flat = ids.detach().flatten().cpu()
        parts = [flat] if self._channel is None else gathered(self._channel, flat)
        self.frequency.update(torch.cat(parts))

    def sample(self, n: int) -> Negatives:
        """Draw n ids; none while the table has no row.

        Raises:
          ValueError: n is below 0.
        """
        with self._together():
            if isinstance(n, bool) or not isinstance(n, int) or n < 0:
                raise ValueError(f"n must be a whole number of draws, 0 or more; got {n!r}.")
            self._look()
            mass = self._sums[-1:] if len(self._sums) else torch.zeros(1, dtype=torch.float64)
        masses = mass if self._channel is None else torch.cat(gathered(self._channel, mass))
        drawn = self._drawn(n, masses.numpy())
        if self._channel is not None:
            drawn = torch.cat(gathered(self._channel, drawn))
        self._draws += 1
        device = self.table.physical.device
        return Negatives(drawn[:, 0].to(device), drawn[:, 1].view(torch.float64).float().to(device))

    def log_q(self, ids: Tensor) -> Tensor:
        """float32 [n]: log q of ids int64 [n] as of the last draw, whether they have a row or not."""
        log_share = self.frequency.share(ids.detach().cpu()).log()
        return (self.alpha * log_share - self._log_mass).float().to(ids.device)

    def log_share(self, ids: Tensor) -> Tensor:
        """float32 [n]: log of the share of all ids counted: that by which an id comes into a batch."""
        return self.frequency.share(ids.detach().cpu()).log().float().to(ids.device)

    def _look(self) -> None:
        """List and weigh this rank's rows, if that is due or one of them has gone."""
        if self._draws - self._listed_at < self.refresh and not self._candidates.have_gone():
            return
        self._candidates.list()
        self._log_share = self.alpha * self.frequency.share(self._candidates.ids).log()
        self._sums = self._log_share.exp().cumsum(0)
        self._listed_at = self._draws

    def _drawn(self, n: int, masses: np.ndarray) -> Tensor:
        """int64 [k, 2]: this rank's part of n draws, ids and the bits of log q as float64."""
        mass = float(masses.sum())
        if mass == 0:
            return torch.zeros(0, 2, dtype=torch.int64)
        self._log_mass = float(np.log(mass))
        counts = np.random.default_rng([self.seed, self._draws]).multinomial(n, masses / mass)
        rank = 0 if self._channel is None else self._channel.rank
        uniform = np.random.default_rng([self.seed, self._draws, rank]).random(counts[rank])
        at = torch.searchsorted(self._sums, torch.from_numpy(uniform) * masses[rank], right=True)
        at = at.clamp(max=max(len(self._sums) - 1, 0))
        log_q = self._log_share[at] - self._log_mass
        return torch.stack([self._candidates.ids[at], log_q.view(torch.int64)], dim=1)

    @property
    def _channel(self) -> Any:
        exchange = self.table.physical.exchange
        return None if exchange is None else exchange.channel

    def _together(self) -> Any:
        return nullcontext() if self._channel is None else self._channel.failing_together("gather")

    def state_dict(self) -> dict[str, Any]:
        """Number of draws, and frequencies; the same on all ranks. The next draw lists rows anew, here as in a run resumed."""
        self._listed_at = self._draws - self.refresh
        return {"draws": self._draws, "frequency": self.frequency.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; the table's rows are loaded elsewhere. Raises ValueError if the state is none of this sampler's."""
        if set(state) != {"draws", "frequency"}:
            raise ValueError(f"the state of a NegativeSampler must have draws and frequency; got {sorted(state)}.")
        self.frequency.load_state_dict(state["frequency"])
        self._draws = int(state["draws"])
        self._listed_at = self._draws - self.refresh
