"""One optimizer step on one row, by the formulas of backends.spec.UpdateRule."""

from __future__ import annotations

import numpy as np

from recis_core.backends.initial_values import rounding_noise
from recis_core.backends.spec import UpdateRule
from tests.reference.rounding import noisy_bfloat16
from tests.reference.table import ReferenceTable

Slots = dict[str, np.ndarray]


def update(
    table: ReferenceTable,
    ids: np.ndarray,
    tables: np.ndarray,
    values: np.ndarray,
    rule: UpdateRule,
    hyper: np.ndarray,
    factor: float,
    t: tuple[int, ...],
) -> None:
    """values [U, D] is the summed gradient of each known key; arithmetic in table.compute."""
    for key, ordinal, gradient in zip(table.keys(ids, tables), tables, values, strict=True):
        entry = table.entries[key]
        line = hyper[ordinal].astype(table.compute)
        grad = gradient.astype(table.compute) * table.compute(factor)
        weights, slots = step(rule, entry.weights, grad, [entry.slots[name] for name in rule.slots], line)
        entry.slots |= dict(zip(rule.slots, slots, strict=True))
        if table.spec.dtype == "bfloat16":
            noise = rounding_noise(
                table.spec.seed, np.array([key[0]], np.uint32), np.array([key[1]]), table.spec.dim, t[ordinal]
            )
            weights = noisy_bfloat16(weights.astype(np.float32), noise[0])
        entry.weights = weights.astype(table.compute)


def step(
    rule: UpdateRule, w: np.ndarray, g: np.ndarray, slots: list[np.ndarray], hyper: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The row and its slots after the step."""
    return {"sgd": _sgd, "adam": _adam, "adagrad": _adagrad, "rowwise_adagrad": _rowwise_adagrad}[rule.kind](
        w, g, slots, hyper
    )


def _sgd(w: np.ndarray, g: np.ndarray, slots: list[np.ndarray], hyper: np.ndarray):
    lr, weight_decay, momentum = hyper
    g = g + weight_decay * w
    if slots:
        g = momentum * slots[0] + g
    return w - lr * g, [g] if slots else []


def _adam(w: np.ndarray, g: np.ndarray, slots: list[np.ndarray], hyper: np.ndarray):
    alpha, beta1, one_minus_beta1, beta2, one_minus_beta2, eps, decay = hyper
    m = beta1 * slots[0] + one_minus_beta1 * g
    v = beta2 * slots[1] + one_minus_beta2 * g * g
    return decay * w + alpha * m / (np.sqrt(v) + eps), [m, v]


def _adagrad(w: np.ndarray, g: np.ndarray, slots: list[np.ndarray], hyper: np.ndarray):
    lr, weight_decay, eps = hyper
    g = g + weight_decay * w
    s = slots[0] + g * g
    return w - lr * g / (np.sqrt(s) + eps), [s]


def _rowwise_adagrad(w: np.ndarray, g: np.ndarray, slots: list[np.ndarray], hyper: np.ndarray):
    lr, weight_decay, eps = hyper
    g = g + weight_decay * w
    s = slots[0] + np.mean(g * g)
    return w - lr * g / (np.sqrt(s) + eps), [s]
