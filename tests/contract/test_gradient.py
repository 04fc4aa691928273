"""gradient, combine, read_gradient and measure.

Sizes: U unique ids, D dim.
"""

import math

import numpy as np
import pytest
import torch

from tests.contract.cases import case
from tests.contract.compare import assert_close, assert_same
from tests.contract.pair import Pair, by_key, make_spec, tensors
from tests.contract.recorded import Recorded

U, D = 10, 8
IDS, TABLES = np.arange(U) * 2**40 - 2**42, (np.arange(U) % 3).astype(np.int32)


def _values(seed: int) -> torch.Tensor:
    return torch.randn((U, D), generator=torch.Generator().manual_seed(seed))


def _pair(backend: Recorded) -> tuple[Pair, torch.Tensor]:
    pair = Pair(backend, make_spec())
    return pair, pair.lookup(IDS, TABLES)


def test_read_back(backend: Recorded) -> None:
    pair, rows = _pair(backend)
    ids, tables = tensors(IDS, TABLES)
    read = backend.read_gradient(backend.gradient(pair.state, ids, tables, rows, _values(1)))
    order, want = by_key(read[0], read[1]), by_key(ids, tables)
    for name, got, given in zip(
        ["ids", "tables", "rows", "values"], read, (ids, tables, rows, _values(1)), strict=True
    ):
        assert_same(name, got[order], given[want])


@pytest.mark.parametrize("mean", [False, True], ids=["sum", "mean"])
def test_combine_overlapping(backend: Recorded, mean: bool) -> None:
    """Keys 0..6 and 3..9: those in both are summed, with mean halved."""
    pair, rows = _pair(backend)
    ids, tables = tensors(IDS, TABLES)
    parts = [slice(0, 7), slice(3, 10)]
    keys = [(ids[p], tables[p], rows[p]) for p in parts]
    gradients = [backend.gradient(pair.state, *keys[k], _values(k)[p]) for k, p in enumerate(parts)]
    read = backend.read_gradient(backend.combine(gradients, mean=mean))
    want, counts = np.zeros((U, D)), np.zeros((U, 1))
    for k, p in enumerate(parts):
        want[p] += _values(k)[p].double().numpy()
        counts[p] += 1
    order = np.argsort(read[0].numpy())
    assert_same("ids", read[0][order], ids)
    assert_same("rows", read[2][order], rows)
    assert_close("values", read[3][order], want / counts if mean else want, torch.float32, gradient=True)


def test_mean_divides_by_occurrences(backend: Recorded) -> None:
    """same_id_500_times beside a second backward: 1,000 occurrences in all."""
    pair = Pair(backend, make_spec())
    embedded = pair.embed(case("same_id_500_times"))
    grads = embedded.grads()
    gradients = [backend.embed_grad(embedded.saved, grads)[0] for _ in range(2)]
    combined = backend.combine(gradients, mean=True)
    embedded.check_values(combined, embedded.expected(grads)[0] / 500)


def test_counts_are_what_a_mean_divides_by(backend: Recorded) -> None:
    pair, rows = _pair(backend)
    ids, tables = tensors(IDS, TABLES)
    counts = torch.arange(1, U + 1, dtype=torch.int32)
    gradients = [backend.gradient(pair.state, ids, tables, rows, _values(k), counts) for k in range(2)]
    read = backend.read_gradient(backend.combine(gradients, mean=True))
    want = (_values(0).double() + _values(1)) / (2 * counts[:, None])
    assert_close(
        "values", read[3][by_key(read[0], read[1])], want.numpy()[by_key(ids, tables)], torch.float32, gradient=True
    )


def test_mean_of_one(backend: Recorded) -> None:
    pair = Pair(backend, make_spec())
    embedded = pair.embed(case("several_tables"))
    combined = backend.combine([embedded.check_grad(embedded.grads())], mean=True)
    keys = np.stack([embedded.tables, embedded.ids], 1)
    c = embedded.case
    counts = [((c.ids == i) & (c.ordinals == t)).sum() for t, i in keys]
    embedded.check_values(combined, embedded.expected(embedded.grads())[0] / np.array(counts)[:, None])


def test_combining_leaves_its_arguments(backend: Recorded) -> None:
    pair, rows = _pair(backend)
    one = backend.gradient(pair.state, *tensors(IDS, TABLES), rows, _values(1))
    backend.combine([one, one])
    again = backend.read_gradient(backend.combine([one]))
    assert_same("values", again[3][by_key(again[0], again[1])], _values(1)[by_key(*tensors(IDS, TABLES))])


def test_measure(backend: Recorded) -> None:
    pair, rows = _pair(backend)
    squares, finite = backend.measure(backend.gradient(pair.state, *tensors(IDS, TABLES), rows, _values(1)))
    assert squares.shape == finite.shape == ()
    assert (squares.dtype, finite.dtype) == (torch.float64, torch.bool)
    assert math.isclose(float(squares), float(_values(1).double().square().sum()), rel_tol=1e-5)
    assert bool(finite)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_measure_finds_what_is_not_finite(backend: Recorded, bad: float) -> None:
    pair, rows = _pair(backend)
    values = _values(1)
    values[U - 1, D - 1] = bad
    gradient = backend.gradient(pair.state, *tensors(IDS, TABLES), rows, values)
    assert not bool(backend.measure(gradient)[1])
    assert not bool(backend.measure(backend.combine([gradient, gradient]))[1])


def test_measure_of_a_backward(backend: Recorded) -> None:
    """Padding, if a backend has any, is no part of the norm."""
    pair = Pair(backend, make_spec())
    embedded = pair.embed(case("several_tables"))
    squares, finite = backend.measure(embedded.check_grad(embedded.grads()))
    want = float((embedded.expected(embedded.grads())[0] ** 2).sum())
    assert math.isclose(float(squares), want, rel_tol=1e-4)
    assert bool(finite)


def test_large_values_do_not_overflow_the_norm(backend: Recorded) -> None:
    pair, rows = _pair(backend)
    gradient = backend.gradient(pair.state, *tensors(IDS, TABLES), rows, torch.full((U, D), 1e25))
    squares, finite = backend.measure(gradient)
    assert bool(finite)
    assert math.isclose(float(squares), U * D * 1e50, rel_tol=1e-4)


def test_without_some_keys(backend: Recorded) -> None:
    """The keys that are left keep rows, values and occurrences; what went counts for nothing."""
    pair, rows = _pair(backend)
    ids, tables = tensors(IDS, TABLES)
    counts = torch.arange(1, U + 1, dtype=torch.int32)
    gradient = backend.gradient(pair.state, ids, tables, rows, _values(1), counts)
    gone = torch.isin(backend.read_gradient(gradient)[0], ids[2:5])
    left = backend.without(gradient, gone)
    read, stay = backend.read_gradient(left), torch.tensor([0, 1, 5, 6, 7, 8, 9])
    order = np.argsort(read[0].numpy())
    assert_same("ids", read[0][order], ids[stay])
    assert_same("rows", read[2][order], rows[stay])
    assert_same("values", read[3][order], _values(1)[stay])
    total, _ = backend.measure(left)
    assert math.isclose(float(total), float(_values(1)[stay].double().square().sum()), rel_tol=1e-5)
    mean = backend.read_gradient(backend.combine([left], mean=True))
    want = (_values(1)[stay].double() / counts[stay, None]).numpy()
    assert_close("mean", mean[3][np.argsort(mean[0].numpy())], want, torch.float32, gradient=True)


def test_without_all_keys(backend: Recorded) -> None:
    pair, rows = _pair(backend)
    gradient = backend.gradient(pair.state, *tensors(IDS, TABLES), rows, _values(1))
    none = backend.without(gradient, torch.ones(U, dtype=torch.bool))
    assert all(len(x) == 0 for x in backend.read_gradient(none))
    assert float(backend.measure(none)[0]) == 0
