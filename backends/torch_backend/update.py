"""One optimizer step on touched rows.

Sizes: U touched rows, D dim, T logical tables, K numbers of a rule.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from recis_core.backends.rows_now import NO_ROWS, keep
from recis_core.backends.spec import RULES, UpdateRule
from recis_core.backends.step_numbers import step_numbers
from recis_core.backends.torch_backend.gradient import KeyedGradient
from recis_core.backends.torch_backend.initial_values import round_to_bfloat16, words
from recis_core.backends.torch_backend.state import TableState, changing, overwrite

Slots = list[Tensor]
Step = Callable[[Tensor, Tensor, Slots, dict[str, Tensor]], tuple[Tensor, Slots]]


def update(
    state: TableState,
    gradient: KeyedGradient,
    rule: UpdateRule,
    *,
    hyper: np.ndarray,
    factor: float,
    t: tuple[int, ...],
) -> TableState:
    with changing(state, NO_ROWS) as undo:
        step = step_numbers(rule, hyper, factor, len(state.spec.uids))
        known = gradient.rows >= 0
        rows, tables = gradient.rows[known].long(), gradient.tables[known].long()
        numbers = torch.from_numpy(step.hyper).to(state.device)[tables]
        named = {name: numbers[:, k : k + 1] for k, name in enumerate(RULES[rule.kind])}
        g = gradient.values[known]
        g = (g if step.ahead is None else g * float(step.ahead)) * float(step.factor)
        before, slots_before = state.weights[rows], [state.slots[name][rows] for name in rule.slots]
        weights, slots = STEPS[rule.kind](g, before.float(), slots_before, named)
        if state.weights.dtype == torch.bfloat16:
            weights = round_to_bfloat16(weights, _noise(state, gradient.ids[known], tables, t))
        if state.copying:
            keep(state.copying, rows)
        overwrite(undo, state.weights, rows, weights, before)
        for name, values, old in zip(rule.slots, slots, slots_before, strict=True):
            overwrite(undo, state.slots[name], rows, values, old)
    return state


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
    return h["decay"] * w + _moved(h["alpha"], m, v.sqrt() + h["eps"]), [m, v]


def _adagrad(g: Tensor, w: Tensor, slots: Slots, h: dict[str, Tensor]) -> tuple[Tensor, Slots]:
    g = g + h["weight_decay"] * w
    s = slots[0] + g * g
    return w - _moved(h["lr"], g, s.sqrt() + h["eps"]), [s]


def _rowwise_adagrad(g: Tensor, w: Tensor, slots: Slots, h: dict[str, Tensor]) -> tuple[Tensor, Slots]:
    g = g + h["weight_decay"] * w
    few = 0.5 ** (g.shape[1] - 1).bit_length()  # a power of two, so that the sum does not overflow before the mean
    s = slots[0] + (g * (g * few)).sum(1, keepdim=True) / (g.shape[1] * few)
    unit = _parts(h["lr"])[1].clamp(2.0**-60, 2.0**40)  # kept so that root / unit is a float32
    return w - h["lr"] / unit * g / (_zero_as_infinite(s.sqrt() + h["eps"]) / unit), [s]


def _moved(rate: Tensor, g: Tensor, root: Tensor) -> Tensor:
    """rate · g / root, 0 where root is 0. The rate's power of two comes last: rate · g must not under- or overflow."""
    share, unit = _parts(rate)
    return share * g / _zero_as_infinite(root) * unit


def _parts(rate: Tensor) -> tuple[Tensor, Tensor]:
    """(a number in ½ … 1 with the rate's sign, the power of two that is missing); that is 0 for a rate of 0."""
    bits = rate.view(torch.int32)
    power = bits & 0x7F800000
    unit = torch.where(power > 0, power + 0x800000, 0).view(torch.float32)
    return ((bits & ~0x7F800000) | 0x3F000000).view(torch.float32), unit


def _zero_as_infinite(root: Tensor) -> Tensor:
    return torch.where(root == 0, torch.inf, root)


STEPS: dict[str, Step] = {"sgd": _sgd, "adam": _adam, "adagrad": _adagrad, "rowwise_adagrad": _rowwise_adagrad}
