"""Clicks on an item by users with a history, of a known truth.

Sizes: n samples, N events of all histories, L longest history.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from recis_core.backends.initial_values import initial_values
from recis_core.io.synthetic import draws
from recis_core.io.synthetic.identity import identify
from recis_core.io.synthetic.log import SyntheticLog, check_range
from recis_core.io.synthetic.truth import SALT, STANDARD, sigmoid, solve_bias
from recis_core.ragged import RaggedTensor

CALIBRATION = 1 << 13  # samples from which the bias is solved


class SyntheticHistories(SyntheticLog):
    """An endless log in which a click depends on whether the item is of a kind that the user's history has.

    p = sigmoid(b + popularity_item + strength · (1 − 2^−m)), with m the events of the item's kind in the history, which
    attention of the item over the history can count. Items and events follow one power law.
    Sample i is a function of the arguments and i alone. No model can be expected to beat `bayes_auc(p)`.

    Args:
      items: number of items, each of one of `kinds`. max_length: L; lengths are 0 to L, with equal chance.
      strength: of the history. popularity: standard deviation of an item's own part. click_rate: mean of p.
      skew: exponent of the power law of items. seed: selects ids, truth and samples.

    Raises:
      ValueError: an argument is out of range.
    """

    def __init__(
        self,
        items: int = 500,
        *,
        kinds: int = 20,
        max_length: int = 20,
        strength: float = 4.0,
        popularity: float = 0.5,
        click_rate: float = 0.3,
        skew: float = 0.5,
        rows: int = 200_000,
        seed: int = 0,
    ) -> None:
        if not 1 <= kinds <= items < 1 << 40 or max_length < 1 or not 0 < click_rate < 1 or skew < 0:
            raise ValueError(
                "there must be kinds from 1 to items, items below 2**40, max_length from 1 on, click_rate in (0, 1) and "
                f"skew from 0 on; got kinds={kinds}, items={items}, max_length={max_length}, click_rate={click_rate} and "
                f"skew={skew}."
            )
        self.items, self.kinds, self.max_length, self.skew = items, kinds, max_length, skew
        self.strength, self.popularity, self.seed, self.rows = strength, popularity, seed, rows
        self.name = f"histories({items}, {kinds}, {max_length}, {strength:g}, {popularity:g}, {click_rate:g}, {skew:g})"
        item, events, lengths = self._draw(np.arange(CALIBRATION, dtype=np.int64))
        self.bias = solve_bias(self._logits(item, events, lengths), click_rate)

    def batch(self, start: int, n: int) -> dict[str, Tensor | RaggedTensor]:
        """Samples start .. start + n.

        Returns:
          "label": float32 [n], 0 or 1. "p": float64 [n], the true probability of 1. "item": int64 [n].
          "history": a RaggedTensor of n rows of items' ids, some of them empty.
        """
        check_range(start, n)
        samples = np.arange(start, start + n, dtype=np.int64)
        item, events, lengths = self._draw(samples)
        p = sigmoid(self._logits(item, events, lengths) + self.bias)
        label = (draws.uniform(self.seed, samples, draws.LABEL) < p).astype(np.float32)
        there = np.arange(self.max_length) < lengths[:, None]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        history = RaggedTensor.from_numpy(identify("mixed", self.seed, 0, events[there]), offsets)
        ids = torch.from_numpy(identify("mixed", self.seed, 0, item))
        return {"label": torch.from_numpy(label), "p": torch.from_numpy(p), "item": ids, "history": history}

    def _draw(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Item [n], events [n, L] of which the first `lengths` [n] are there: numbers of items."""
        drawn = [self._items(samples, position) for position in range(self.max_length + 1)]
        lengths = (draws.uniform(self.seed, samples, draws.LENGTH) * (self.max_length + 1)).astype(np.int64)
        return drawn[0], np.stack(drawn[1:], 1), lengths

    def _items(self, samples: np.ndarray, position: int) -> np.ndarray:
        return draws.power_law(draws.uniform(self.seed, samples, draws.RANK, 0, position), self.items, self.skew)

    def _logits(self, item: np.ndarray, events: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """float64 [n], without the bias."""
        alike = (events % self.kinds == item[:, None] % self.kinds) & (np.arange(self.max_length) < lengths[:, None])
        own = initial_values(STANDARD, self.seed ^ SALT, np.array(0, np.uint32), item, 1)[:, 0].astype(np.float64)
        return self.popularity * own + self.strength * (1 - 0.5 ** alike.sum(1))
