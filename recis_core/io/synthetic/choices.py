"""Users who each choose an item out of all, by known probabilities.

Sizes: n samples, U users, I items, k places.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from recis_core.backends.initial_values import initial_values
from recis_core.io.synthetic import draws
from recis_core.io.synthetic.identity import identify
from recis_core.io.synthetic.log import SyntheticLog, check_range
from recis_core.io.synthetic.truth import SALT, STANDARD
from recis_core.ragged import RaggedTensor

USER, ITEM = 0, 1  # fields


class SyntheticChoices(SyntheticLog):
    """An endless log of (user, item), for retrieval: p(i | u) ∝ popularity_i · e^{taste · <v_u, v_i>}, over all items.

    Users are uniform. `recall` is that of a ranking over choices drawn from the truth, without the noise of drawn ones, and
    `best_recall` what no model can be expected to beat. Sample i is a function of the arguments and i alone.

    Args:
      users, items: U and I; the truth is kept as U · I numbers of 8 bytes.
      dim: length of v, whose product has standard deviation 1. taste: its factor.
      skew: popularity of the item of rank r is (r + 1)^−skew. seed: selects ids, truth and samples.

    Raises:
      ValueError: an argument is out of range.
    """

    def __init__(
        self,
        users: int = 500,
        items: int = 500,
        *,
        dim: int = 4,
        taste: float = 2.0,
        skew: float = 1.0,
        rows: int = 200_000,
        seed: int = 0,
    ) -> None:
        if min(users, items, dim) < 1 or skew < 0:
            raise ValueError(f"users, items and dim must be 1 or more, skew 0 or more; got {users, items, dim, skew}.")
        self.name = f"choices({users}, {items}, {dim}, {taste:g}, {skew:g})"
        self.seed, self.rows = seed, rows
        self.users = torch.from_numpy(identify("mixed", seed, USER, np.arange(users)))
        self.items = torch.from_numpy(identify("mixed", seed, ITEM, np.arange(items)))
        tastes, kinds = (self._vectors(field, count, dim) for field, count in ((USER, users), (ITEM, items)))
        z = taste * tastes @ kinds.T / dim**0.5 - skew * np.log1p(np.arange(items))
        weights = np.exp(z - z.max(1, keepdims=True))
        self._p = weights / weights.sum(1, keepdims=True)
        self._sums = self._p.cumsum(1)
        self._number = {int(id): number for number, id in enumerate(self.users)}

    def _vectors(self, field: int, count: int, dim: int) -> np.ndarray:
        drawn = initial_values(STANDARD, self.seed ^ SALT, np.array(field, np.uint32), np.arange(count), dim)
        return drawn.astype(np.float64)

    def batch(self, start: int, n: int) -> dict[str, Tensor | RaggedTensor]:
        """Samples start .. start + n: {"user", "item": int64 [n]}."""
        check_range(start, n)
        samples = np.arange(start, start + n, dtype=np.int64)
        user = (draws.uniform(self.seed, samples, draws.RANK, USER) * len(self.users)).astype(np.int64)
        u = draws.uniform(self.seed, samples, draws.RANK, ITEM) * self._sums[user, -1]
        item = np.array(
            [self._sums[who].searchsorted(x, side="right") for who, x in zip(user, u, strict=True)], np.int64
        )
        return {"user": self.users[user], "item": self.items[np.minimum(item, len(self.items) - 1)]}

    def probabilities(self, users: Tensor) -> Tensor:
        """float64 [n, I]: the true p(i | u) of users' ids int64 [n], items in the order of `items`.

        Raises:
          KeyError: an id is no user's.
        """
        return torch.from_numpy(self._p[[self._number[int(id)] for id in users]])

    def recall(self, users: Tensor, top: Tensor) -> float:
        """The mean over users of the chance that their choice is among their k items. users: int64 [n], top: int64 [n, k]."""
        order = self.items.argsort()
        at = torch.searchsorted(self.items[order], top).clamp(max=len(self.items) - 1)
        numbers = order[at]
        found = self.probabilities(users).gather(1, numbers).where(self.items[numbers] == top, 0)
        return float(found.sum(1).mean())

    def best_recall(self, users: Tensor, k: int) -> float:
        """That of the k likeliest items of each user."""
        return float(self.probabilities(users).topk(k, dim=1).values.sum(1).mean())
