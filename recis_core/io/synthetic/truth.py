"""The planted truth: what each value adds to the logit.

z = b + Σ_f w_f + Σ_{f<g} <v_f, v_g>,  w_f and v_f sums over a sample's ids in field f; p = 1 / (1 + e^-z).

Sizes: n samples, L positions of a list, D length of v.
"""

from __future__ import annotations

import numpy as np

from recis_core.backends.initial_values import Distribution, initial_values
from recis_core.io.synthetic.preset import Preset

SALT = 0x7472757468  # makes the truth independent of the initial values of a table with the same seed
TABLE_UP_TO = 1 << 17  # vocabularies up to this size are drawn once and kept
STANDARD = Distribution("normal", 0.0, 1.0)


class FieldTruth:
    """w and v of one field's values, from (seed, field, value) alone."""

    def __init__(self, preset: Preset, field: int, seed: int) -> None:
        spec = preset.fields[field]
        # <v_f, v_g> of D products of N(0, s²) has standard deviation s²·√D.
        spread = (preset.pair / preset.dim**0.5) ** 0.5
        length = (1 - spec.empty) * (1 + spec.max_length) / 2
        share = spec.strength / max(length, 1.0) ** 0.5
        self._scale = np.array([preset.linear] + [spread] * preset.dim) * share
        self._seed, self._field = seed ^ SALT, field
        small = spec.vocabulary <= TABLE_UP_TO
        self._table = self._draw(np.arange(spec.vocabulary)) if small else None

    def _draw(self, values: np.ndarray) -> np.ndarray:
        drawn = initial_values(STANDARD, self._seed, np.array(self._field, np.uint32), values, len(self._scale))
        return drawn.astype(np.float64) * self._scale

    def _rows(self, values: np.ndarray) -> np.ndarray:
        if self._table is not None:
            return self._table[values]
        return self._draw(values)

    def pooled(self, grid: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """float64 [n, 1 + D]: w and v of each sample; grid and weights [n, L], with weight 0 at places without an id."""
        total = np.zeros((len(grid), len(self._scale)))
        for position in range(grid.shape[1]):
            here = np.flatnonzero(weights[:, position])
            total[here] += self._rows(grid[here, position]) * weights[here, position, None]
        return total


def logits(pooled: list[np.ndarray]) -> np.ndarray:
    """float64 [n] without b, from each field's w and v. Σ_{f<g} <v_f, v_g> = (|Σ v_f|² - Σ |v_f|²) / 2."""
    total = np.zeros_like(pooled[0])
    squares = np.zeros(len(total))
    for field in pooled:
        total += field
        squares += (field[:, 1:] ** 2).sum(1)
    return total[:, 0] + ((total[:, 1:] ** 2).sum(1) - squares) / 2


def sigmoid(z: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-z) without overflow."""
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1 / (1 + e), e / (1 + e))


def solve_bias(z: np.ndarray, click_rate: float) -> float:
    """The b with mean(sigmoid(z + b)) = click_rate, by bisection."""
    low, high = -50.0, 50.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if sigmoid(z + middle).mean() > click_rate else (middle, high)
    return (low + high) / 2
