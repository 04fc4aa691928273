"""The click log; any rank can make any slice of it.

Sizes: n samples, N ids of a field, L positions of a list.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from recis_core.io.synthetic import draws
from recis_core.io.synthetic.identity import identify
from recis_core.io.synthetic.log import SyntheticLog, check_range
from recis_core.io.synthetic.preset import Field, Preset, named
from recis_core.io.synthetic.truth import FieldTruth, logits, sigmoid, solve_bias
from recis_core.ragged import RaggedTensor

CALIBRATION = 1 << 14  # samples, spread over the preset's rows, from which the bias is solved


class SyntheticClicks(SyntheticLog):
    """An endless click log whose true click probabilities are known.

    Sample i is a function of (preset, seed, i) alone, however the log is sliced, batched or divided among ranks. Ids
    follow power laws; labels are drawn from p = sigmoid(b + Σ w + Σ <v_f, v_g>), a factorization machine, which DeepFM
    can learn. No model can be expected to beat `bayes_auc(p)` and `bayes_logloss(p)`.

    Args:
      preset: tiny, small, criteo-shape, drift, adversarial, or a custom Preset.
      seed: selects ids, truth and samples.
    """

    def __init__(self, preset: str | Preset = "tiny", seed: int = 0) -> None:
        self.preset, self.seed = named(preset), seed
        self.name, self.rows = self.preset.name, self.preset.rows
        self._truths = [FieldTruth(self.preset, number, seed) for number in range(len(self.preset.fields))]
        spread = np.arange(CALIBRATION) * max(1, self.preset.rows // CALIBRATION)
        z = self._logits([self._draw(number, spread) for number in self._numbers])
        self.bias = solve_bias(z, self.preset.click_rate)

    @property
    def _numbers(self) -> range:
        return range(len(self.preset.fields))

    def batch(self, start: int, n: int) -> dict[str, Tensor | RaggedTensor]:
        """Samples start .. start + n.

        Returns:
          "label": float32 [n], 0 or 1. "p": float64 [n], the true probability of 1.
          Each field by name: a RaggedTensor of n rows of int64 ids, with weights if the field is weighted.
        """
        check_range(start, n)
        samples = np.arange(start, start + n, dtype=np.int64)
        drawn = [self._draw(number, samples) for number in self._numbers]
        p = sigmoid(self._logits(drawn) + self.bias)
        label = (draws.uniform(self.seed, samples, draws.LABEL) < p).astype(np.float32)
        batch: dict[str, Tensor | RaggedTensor] = {"label": torch.from_numpy(label), "p": torch.from_numpy(p)}
        for number, field in enumerate(self.preset.fields):
            batch[field.name] = self._ragged(number, field, *drawn[number])
        return batch

    def _draw(self, number: int, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(values int64 [n, L], weights float64 [n, L]), with weight 0 after a list's end."""
        field = self.preset.fields[number]
        lengths = self._lengths(number, field, samples)
        values = np.stack([self._values(number, field, samples, k) for k in range(field.max_length)], 1)
        weights = (np.arange(field.max_length) < lengths[:, None]).astype(np.float64)
        if field.weighted:
            for k in range(field.max_length):
                weights[:, k] *= 0.5 + draws.uniform(self.seed, samples, draws.WEIGHT, number, k)
        return values, weights.astype(np.float32).astype(np.float64)

    def _lengths(self, number: int, field: Field, samples: np.ndarray) -> np.ndarray:
        if field.max_length == 1 and field.empty == 0:
            return np.ones(len(samples), np.int64)
        u = draws.uniform(self.seed, samples, draws.LENGTH, number)
        share = (u - field.empty) / (1 - field.empty) if field.empty < 1 else -u
        return np.where(share < 0, 0, 1 + (share * field.max_length).astype(np.int64))

    def _values(self, number: int, field: Field, samples: np.ndarray, position: int) -> np.ndarray:
        u = draws.uniform(self.seed, samples, draws.RANK, number, position)
        ranks = draws.power_law(u, field.vocabulary, field.skew)
        if field.hot:
            ranks[draws.uniform(self.seed, samples, draws.HOT, number, position) < field.hot] = 0
        if not field.drift:
            return ranks
        newest = (samples * field.drift).astype(np.int64)
        return (newest - ranks) % field.vocabulary

    def _logits(self, drawn: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        return logits([truth.pooled(*pair) for truth, pair in zip(self._truths, drawn, strict=True)])

    def _ragged(self, number: int, field: Field, values: np.ndarray, weights: np.ndarray) -> RaggedTensor:
        present = weights > 0
        ids = identify(field.ids, self.seed, number, values[present])
        offsets = np.concatenate([[0], np.cumsum(present.sum(1))])
        kept = weights[present].astype(np.float32) if field.weighted else None
        return RaggedTensor.from_numpy(ids, offsets, weight=kept)
