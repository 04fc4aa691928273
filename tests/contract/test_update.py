"""update: each rule on three logical tables with numbers of their own.

Sizes: U unique ids, D dim.
"""

import numpy as np
import pytest
import torch

from recis_core.backends import SlotSpec, UpdateRule
from recis_core.backends.initial_values import rounding_noise
from tests.contract.compare import assert_same
from tests.contract.pair import SEED, Pair, make_spec
from tests.contract.recorded import Recorded
from tests.reference.rounding import noisy_bfloat16

U, D = 10, 8
IDS, TABLES = np.arange(U) * 2**40 - 2**42, (np.arange(U) % 3).astype(np.int32)
FULL, ROW = (SlotSpec("m", D, 0.5), SlotSpec("v", D, 0.25)), (SlotSpec("s", 1, 0.5),)
ADAM = [(-1e-2, 0.9, 0.1, 0.999, 0.001, 1e-8, 1.0), (-3e-3, 0.8, 0.2, 0.99, 0.01, 1e-6, 0.99), (0, 0, 1, 0, 1, 1, 1)]
RULES = {
    "sgd": (UpdateRule("sgd"), (), [(0.1, 0, 0), (0.2, 0.01, 0), (0.3, 0.1, 0)]),
    "sgd_momentum": (UpdateRule("sgd", ("m",)), FULL, [(0.1, 0, 0.9), (0.2, 0.01, 0.5), (0.3, 0.1, 0)]),
    "adam": (UpdateRule("adam", ("m", "v")), FULL, ADAM),
    "adagrad": (UpdateRule("adagrad", ("v",)), FULL, [(0.1, 0, 1e-10), (0.2, 0.01, 1e-10), (0.3, 0.1, 1e-3)]),
    "rowwise_adagrad": (
        UpdateRule("rowwise_adagrad", ("s",)),
        ROW,
        [(0.1, 0, 1e-10), (0.2, 0.01, 1e-10), (0.3, 0.1, 1)],
    ),
}


def _values(seed: int, n: int = U, dim: int = D) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


@pytest.mark.parametrize("name", RULES)
def test_rules(backend: Recorded, name: str) -> None:
    """Three steps: all rows, some rows, all rows scaled by 1/8. Rows without a gradient keep their bits."""
    rule, slots, lines = RULES[name]
    hyper = np.array(lines, np.float32)
    pair = Pair(backend, make_spec(), slots, np.float64)
    pair.lookup(IDS, TABLES)
    pair.update(IDS, TABLES, _values(1), rule, hyper, factor=1.0, t=(1, 1, 1))
    before = backend.export(pair.state)
    some = slice(2, 6)
    pair.update(IDS[some], TABLES[some], _values(2)[some], rule, hyper, factor=1.0, t=(2, 2, 2))
    _check_rest(before, backend.export(pair.state), IDS[some])
    pair.update(IDS, TABLES, _values(3), rule, hyper * 0.5, factor=0.125, t=(3, 3, 3))
    pair.check_values()


def _check_rest(before, after, touched: np.ndarray) -> None:
    rest = ~np.isin(before.ids.numpy(), touched)
    assert_same("weights", after.weights[rest], before.weights[rest])
    for slot in before.slots:
        assert_same(slot, after.slots[slot][rest], before.slots[slot][rest])


@pytest.mark.parametrize("name", ["adam", "rowwise_adagrad"])
def test_repeats_are_bit_identical(backend: Recorded, name: str) -> None:
    rule, slots, lines = RULES[name]
    exports = []
    for _ in range(2):
        pair = Pair(backend, make_spec(), slots)
        pair.lookup(IDS, TABLES)
        for step in (1, 2):
            pair.update(IDS, TABLES, _values(step), rule, np.array(lines, np.float32), factor=0.5, t=(step,) * 3)
        exports.append(backend.export(pair.state))
    assert_same("weights", exports[1].weights, exports[0].weights)
    for slot in exports[0].slots:
        assert_same(slot, exports[1].slots[slot], exports[0].slots[slot])


@pytest.mark.parametrize("dim", [1, 7])
def test_odd_dims(backend: Recorded, dim: int) -> None:
    rule = UpdateRule("rowwise_adagrad", ("s",))
    pair = Pair(backend, make_spec(dim), ROW, np.float64)
    pair.lookup(IDS, TABLES)
    hyper = np.array(RULES["rowwise_adagrad"][2], np.float32)
    pair.update(IDS, TABLES, _values(1, dim=dim), rule, hyper, factor=1.0, t=(1, 1, 1))
    pair.check_values()


def test_no_rows(backend: Recorded) -> None:
    pair = Pair(backend, make_spec())
    pair.lookup(IDS, TABLES)
    hyper = np.zeros((3, 3), np.float32)
    pair.update(IDS[:0], TABLES[:0], _values(1, 0), UpdateRule("sgd"), hyper, factor=1.0, t=(1, 1, 1))
    pair.check()


def _exact_step(dtype: str, backend: Recorded, grad: np.ndarray, t: tuple[int, ...]) -> tuple[Pair, torch.Tensor]:
    """w - lr * g with lr a power of two and short w, g: exact in float32, so that bits compare."""
    pair = Pair(backend, make_spec(dtype=dtype))
    pair.lookup(IDS, TABLES)
    before = backend.export(pair.state)
    hyper = np.array([[2.0**-12, 0, 0]] * 3, np.float32)
    pair.update(IDS, TABLES, grad, UpdateRule("sgd"), hyper, factor=1.0, t=t)
    return pair, before.weights


def _steps_of_bfloat16() -> np.ndarray:
    return np.random.default_rng(1).integers(-15, 16, (U, D)) / np.float32(8)


def test_bfloat16_rounds_by_seed_key_and_step(backend: Recorded) -> None:
    """bits + (words & 0xFFFF), cut: t is that of the row's own logical table."""
    t = (3, 70_000, 11)
    pair, before = _exact_step("bfloat16", backend, _steps_of_bfloat16(), t)
    got = backend.export(pair.state)
    order = {key: u for u, key in enumerate(zip(TABLES.tolist(), IDS.tolist(), strict=True))}
    of_row = [order[key] for key in zip(got.tables.tolist(), got.ids.tolist(), strict=True)]
    exact = before.float().numpy() - np.float32(2.0**-12) * _steps_of_bfloat16()[of_row]
    uids = np.asarray(pair.spec.uids, np.uint32)[got.tables.numpy()]
    for u in range(U):
        noise = rounding_noise(SEED, uids[u : u + 1], got.ids.numpy()[u : u + 1], D, t[int(got.tables[u])])
        want = torch.from_numpy(noisy_bfloat16(exact[u : u + 1], noise)).to(torch.bfloat16)
        assert_same("weights", got.weights[u : u + 1], want)
    pair.check()


def test_bfloat16_keeps_what_is_not_finite(backend: Recorded) -> None:
    grad = _steps_of_bfloat16()
    grad[0, :3] = np.inf, -np.inf, np.nan
    pair, _ = _exact_step("bfloat16", backend, grad, (1, 1, 1))
    weights = backend.export(pair.state).weights[_index_of(pair, 0)].float()
    assert weights[:3].isinf().tolist() == [True, True, False]
    assert weights[2].isnan()
    assert weights[3:].isfinite().all()


def _index_of(pair: Pair, u: int) -> int:
    got = pair.backend.export(pair.state)
    return int(((got.ids == int(IDS[u])) & (got.tables == int(TABLES[u]))).nonzero())


@pytest.mark.parametrize("name", ["adam", "adagrad"])
def test_bfloat16_rules(backend: Recorded, name: str) -> None:
    """Within one rounding of a float64 reference."""
    rule, slots, lines = RULES[name]
    pair = Pair(backend, make_spec(dtype="bfloat16"), slots, np.float64)
    pair.lookup(IDS, TABLES)
    pair.update(IDS, TABLES, _values(1), rule, np.array(lines, np.float32), factor=1.0, t=(1, 1, 1))
    pair.check_values(torch.bfloat16)


def test_slots_come_late(backend: Recorded) -> None:
    """An optimizer may attach after rows exist; a second time is no change; another width is an error."""
    pair = Pair(backend, make_spec())
    pair.lookup(IDS[:5], TABLES[:5])
    pair.add_slots(FULL)
    pair.lookup(IDS, TABLES)
    pair.add_slots(FULL)
    pair.check()
    with pytest.raises(ValueError, match="m"):
        backend.add_slots(pair.state, (SlotSpec("m", 1, 0.5),))
    with pytest.raises(ValueError, match="m"):
        backend.add_slots(pair.state, (SlotSpec("m", D, 0.75),))
