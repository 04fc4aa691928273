"""One optimizer step on touched rows.

Sizes: U touched rows, D dim, T logical tables, K numbers of a rule.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from backends.spec import RULES, UpdateRule
from backends.torch_backend.gradient import KeyedGradient
from backends.torch_backend.initial_values import round_to_bfloat16, words
from backends.torch_backend.state import TableState, overwrite
from backends.whole import Undo

Slots = list[Tensor]
Step = Callable[[Tensor, Tensor, Slots, dict[str, Tensor]], tuple[Tensor, Slots]]


def update(
    state: TableState,
    undo: Undo,
    gradient: KeyedGradient,
    rule: UpdateRule,
    hyper: np.ndarray,
    factor: float,
    t: tuple[int, ...],
) -> None:
    known = gradient.rows >= 0
    rows, tables = gradient.rows[known].long(), gradient.tables[known].long()
    numbers = torch.from_numpy(np.asarray(hyper, np.float32)).to(state.device)[tables]
    named = {name: numbers[:, k : k + 1] for k, name in enumerate(RULES[rule.kind])}
    g = gradient.values[known] * factor
    before, slots_before = state.weights[rows], [state.slots[name][rows] for name in rule.slots]
    weights, slots = STEPS[rule.kind](g, before.float(), slots_before, named)
    if state.weights.dtype == torch.bfloat16:
        weights = round_to_bfloat16(weights, _noise(state, gradient.ids[known], tables, t))
    overwrite(undo, state.weights, rows, weights, before)
    for name, values, old in zip(rule.slots, slots, slots_before, strict=True):
        overwrite(undo, state.slots[name], rows, values, old)


def _noise(state: TableState, ids: Tensor, tables: Tensor, t: tuple[int, ...]) -> Tensor:
    counter = torch.tensor(t, dtype=torch.int64, device=ids.device)[tables]
    return words(state.spec.seed, state.uids(tables), ids, state.spec.dim, counter) & 0xFFFF


def _sgd(g: Tensor, w: Tensor, slots: Slots, h: dict[str, Tensor]) -> tuple[Tensor, Slots]:
    g = g + h["weight_decay"] * w
    if slots:
        g = h["momentum"] * slots[0] + g
    return w - h["lr"] * g, [g] if slots else []


def _adam(g: Tensor, w: Tensor, slots: Slots, h: dict[str, Tensor]) -> tuple[Tensor, Slots]:
    m = h["beta1"] * slots[0] + h["one_minus_beta1"] * g
    v = h["beta2"] * slots[1] + h["one_minus_beta2"] * g * g
    return h["decay"] * w + h["alpha"] * m / (v.sqrt() + h["eps"]), [m, v]


def _adagrad(g: Tensor, w: Tensor, slots: Slots, h: dict[str, Tensor]) -> tuple[Tensor, Slots]:
    g = g + h["weight_decay"] * w
    s = slots[0] + g * g
    return w - h["lr"] * g / (s.sqrt() + h["eps"]), [s]


def _rowwise_adagrad(g: Tensor, w: Tensor, slots: Slots, h: dict[str, Tensor]) -> tuple[Tensor, Slots]:
    g = g + h["weight_decay"] * w
    s = slots[0] + (g * g).mean(1, keepdim=True)
    return w - h["lr"] * g / (s.sqrt() + h["eps"]), [s]


STEPS: dict[str, Step] = {"sgd": _sgd, "adam": _adam, "adagrad": _adagrad, "rowwise_adagrad": _rowwise_adagrad}
