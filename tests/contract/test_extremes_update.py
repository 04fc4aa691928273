"""update at the edges of float32: gradients, weights, slots and numbers of any magnitude, beside the rule in float64.

A slot that float32 cannot hold is inf, or may be 0 below the least normal number; the weight then follows from that.
So each weight is wanted between what the rule gives for the least and the largest slot of that rounding.
One table serves all magnitudes of a rule: a backend that compiles does so once a rule.

Sizes: U rows, D dim.
"""

import os
from itertools import product

import numpy as np
import pytest
import torch

from recis_core.backends import Clock, LookupMode, SlotSpec, UpdateRule
from tests.contract.pair import make_spec, tensors
from tests.contract.recorded import Recorded

FULL = os.environ.get("RECIS_TEST_FULL") == "1"
TINY, MAX = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
RTOL = 1e-5
U, D = 96, 6
IDS, TABLES = np.arange(U) * 2**40 - 2**42, np.arange(U, dtype=np.int32) % 3
GRADS = (0, 1e-45, 1e-42, 1e-38, 1e-30, 3e-23, 1e-19, 1e-8, 1, 3e7, 1e18, 1.7e19, 1e20, 5e20, 1e25, 1.5e38)
STATES = ((0, 0), (1e-3, 1e-6), (1, 0), (1e-30, 1e-30), (1e30, 1e30))  # weights, slots
FACTORS = (1.0, 2.0**-40, 2.0**40, 2.0**-140, 2.0**135) if FULL else (1.0, 2.0**-140)
RATES, EPS = (0, 1e-30, 1e-3, 1e10), (0, 1e-38, 1e-10, 1e-8)
ADAM = ((0.9, 0.999, 1.0), (0, 0, 1.0), (0.9, 0.999999, 0.99), (0.999999, 0.5, 1.0))


def adam_lines() -> list[tuple[float, ...]]:
    lines = product(RATES, EPS, ADAM)
    return [(-rate, b1, 1 - b1, b2, 1 - b2, eps, decay) for rate, eps, (b1, b2, decay) in lines]


def adagrad_lines() -> list[tuple[float, ...]]:
    return [(rate, decay, eps) for rate, decay, eps in product(RATES, (0, 1e-2, 1e-38), EPS)]


def sgd_lines() -> list[tuple[float, ...]]:
    return list(product(RATES, (0, 1e-2), (0, 0.9)))


RULES = {
    "sgd": (UpdateRule("sgd"), sgd_lines()),
    "momentum": (UpdateRule("sgd", ("m",)), sgd_lines()),
    "adam": (UpdateRule("adam", ("m", "v")), adam_lines()),
    "adagrad": (UpdateRule("adagrad", ("v",)), adagrad_lines()),
    "rowwise_adagrad": (UpdateRule("rowwise_adagrad", ("s",)), adagrad_lines()),
}


def _gradients() -> np.ndarray:
    """Each magnitude in rows of one size, in rows beside smaller ones, and of both signs."""
    rng = np.random.default_rng(1)
    sizes = np.array([GRADS[u % len(GRADS)] for u in range(U)])[:, None] * np.ones(D)
    mixed = np.minimum(np.array(GRADS)[rng.integers(0, len(GRADS), (U, D))], sizes)
    sizes[U // 2 :] = mixed[U // 2 :]
    return (sizes * rng.choice([-1, 1], (U, D))).astype(np.float32)


def _close(name: str, got: np.ndarray, wanted: list[np.ndarray], around: np.ndarray) -> None:
    """Between the least and the largest, give or take RTOL of `around`; what float32 cannot hold is inf."""
    room = RTOL * around + 2 * TINY
    low, high = np.minimum.reduce(wanted) - room, np.maximum.reduce(wanted) + room
    most = MAX * 0.999  # beyond, either it or inf
    low, high = (
        np.where(low < -most, -np.inf, np.minimum(low, most)),
        np.where(high > most, np.inf, np.maximum(high, -most)),
    )
    inside = (got >= low) & (got <= high)
    assert inside.all(), f"{name}: {got[~inside][:4]}, wanted {low[~inside][:4]} … {high[~inside][:4]}"


def _rounded(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of x as a float32: what is below the least normal number may be flushed, or has few bits."""
    small = np.abs(x) < TINY
    return np.where(small, 0, x), np.where(small, x + np.sign(x) * 2.0**-147, x)


def _held(slot: np.ndarray, flushed: float) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest that float32 may hold for a sum of squares."""
    low, high = np.maximum(slot * (1 - RTOL) - flushed, 0), slot * (1 + RTOL) + flushed
    return np.where(low > MAX, np.inf, low), np.where(high >= MAX, np.inf, high)


def _step(rate: np.ndarray, g: np.ndarray, slot: np.ndarray, eps: np.ndarray) -> np.ndarray:
    root = np.sqrt(slot) + eps
    return np.divide(rate * g, root, out=np.zeros_like(g), where=root != 0)


def _check(rule: UpdateRule, name: str, before: dict, g: np.ndarray, hyper: np.ndarray, after: dict) -> None:
    lines = np.where(np.abs(hyper) < TINY, 0, hyper).astype(np.float32).astype(np.float64)[before["tables"]]
    numbers = [lines[:, k : k + 1] for k in range(lines.shape[1])]
    w = before["weights"]
    if rule.kind == "adam":
        rate, b1, o1, b2, o2, eps, decay = numbers
        moved, squares = b1 * before["m"] + o1 * g, b2 * before["v"] + o2 * g * g
        _close(f"{name} m", after["m"], [moved], np.abs(moved))
        _check_root(name, (-rate, decay * w, moved, eps), squares, after, "v", 4 * TINY)
    elif rule.kind == "sgd":
        rate, weight_decay, momentum = numbers
        rest = (momentum * before["m"] if rule.slots else 0) + weight_decay * w
        moved = rest + g
        if rule.slots:
            _close(f"{name} m", after["m"], [moved], np.abs(moved))
        steps = [rate * x for y in _rounded(g) for x in _rounded(rest + y)]
        _close(f"{name} weights", after["weights"], [w - step for step in steps], np.abs(w) + np.abs(steps[0]))
    else:
        rate, weight_decay, eps = numbers
        g, slot = g + weight_decay * w, rule.slots[0]
        squares = before[slot] + (g * g if rule.kind == "adagrad" else (g * g).mean(1, keepdims=True))
        _check_root(name, (rate, w, g, eps), squares, after, slot, 4 * D * TINY)


def _check_root(name: str, numbers: tuple, squares: np.ndarray, after: dict, slot: str, flushed: float) -> None:
    """The slot, and w − rate · moved / (√slot + eps) for the least and the largest that the slot may be."""
    rate, w, moved, eps = numbers
    held = _held(squares, flushed)
    _close(f"{name} {slot}", after[slot], list(held), np.where(np.isinf(held[1]), 0, held[1]))
    least = np.where(held[0] == 0, np.minimum(1.4e-45, held[1]), held[0])
    steps = [_step(rate, x, s, eps) for x in _rounded(moved) for s in (*held, least)]
    around = np.abs(w) + np.minimum(np.abs(steps[1]), np.abs(steps[2]))
    _close(f"{name} weights", after["weights"], [w - step for step in steps], around)


@pytest.mark.parametrize("name", RULES)
def test_rules_at_the_edges(backend: Recorded, name: str) -> None:
    rule, lines = RULES[name]
    rng = np.random.default_rng(2)
    some = {"jax": 9, "pallas": 3}.get(backend.name)  # of the lines, without RECIS_TEST_FULL
    lines = lines if FULL or some is None else lines[:: max(1, len(lines) // some)]
    state = backend.create(make_spec(D))
    widths = {slot: 1 if slot == "s" else D for slot in rule.slots}
    state = backend.add_slots(state, tuple(SlotSpec(slot, width) for slot, width in widths.items()))
    state, rows, _ = backend.lookup(state, *tensors(IDS, TABLES), mode=LookupMode(), clock=Clock(1))
    for (weight, slot), factor in product(STATES, FACTORS):
        base = _gradients()
        if factor > 1:  # a subnormal one may be flushed before it is multiplied
            base = np.where(np.abs(base) < TINY, np.float32(0), base)
        for first in range(0, len(lines), 3):
            hyper = np.array([lines[(first + k) % len(lines)] for k in range(3)])
            before = {"weights": (np.sign(base) * weight).astype(np.float32)}
            for s, width in widths.items():
                size = rng.uniform(0.5, 1, (U, width)) * slot
                before[s] = (size * (np.sign(base) if s == "m" else 1)).astype(np.float32)
            given = {s: torch.from_numpy(before[s].copy()) for s in widths}
            state = backend.write_rows(state, rows, torch.from_numpy(before["weights"].copy()), given)
            gradient = backend.gradient(state, *tensors(IDS, TABLES), rows, torch.from_numpy(base.copy()))
            state = backend.update(state, gradient, rule, hyper=hyper, factor=factor, t=(1, 1, 1))
            weights, slots = backend.read_rows(state, rows)
            after = {"weights": weights.double().numpy()} | {s: v.double().numpy() for s, v in slots.items()}
            _compare(rule, f"{weight}, {slot}, {factor}, {hyper.tolist()}", before, base, factor, hyper, after)


def _compare(rule: UpdateRule, name: str, before: dict, base: np.ndarray, factor: float, hyper, after: dict) -> None:
    """Where the gradient times the factor is a float32 at all."""
    g = base.astype(np.float64) * factor
    fits = (np.abs(g) <= MAX / 4).all(1)
    before = {k: np.where(np.abs(v) < TINY, 0, v).astype(np.float64) for k, v in before.items()}
    with np.errstate(all="ignore"):
        _check(rule, name, _only(before | {"tables": TABLES}, fits), g[fits], hyper, _only(after, fits))


def _only(arrays: dict, rows: np.ndarray) -> dict:
    return {name: array[rows] for name, array in arrays.items()}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_numbers_that_are_not_finite_are_refused(backend: Recorded, bad: float) -> None:
    """Before anything is changed."""
    state = backend.create(make_spec(D))
    state, rows, _ = backend.lookup(state, *tensors(IDS, TABLES), mode=LookupMode(), clock=Clock(1))
    gradient = backend.gradient(state, *tensors(IDS, TABLES), rows, torch.ones(U, D))
    before = backend.read_rows(state, rows)[0].clone()
    hyper = np.array([[0.1, 0, 0]] * 3)
    hyper[1, 0] = bad
    with pytest.raises(ValueError, match="lr must be finite and below"):
        backend.update(state, gradient, UpdateRule("sgd"), hyper=hyper, factor=1.0, t=(1, 1, 1))
    if not np.isfinite(bad):
        with pytest.raises(ValueError, match="factor must be finite"):
            backend.update(state, gradient, UpdateRule("sgd"), hyper=np.zeros((3, 3)), factor=bad, t=(1, 1, 1))
    with pytest.raises(ValueError, match=r"hyper of sgd must be \[3, 3\]; got \[2, 3\]"):
        backend.update(state, gradient, UpdateRule("sgd"), hyper=np.zeros((2, 3)), factor=1.0, t=(1, 1, 1))
    assert torch.equal(backend.read_rows(state, rows)[0], before)
