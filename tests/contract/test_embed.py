"""embed and embed_grad: whole calls against the reference table and float64 pooling."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recis_core.backends import Clock, LookupMode
from tests.contract.cases import CASES, ONE_ROW, Case, case
from tests.contract.compare import assert_close, assert_same
from tests.contract.pair import Pair, by_key, make_call, make_spec, runs, tensors
from tests.contract.recorded import Recorded

FIND = LookupMode(insert=False)


@pytest.mark.parametrize("c", CASES, ids=str)
def test_cases(backend: Recorded, c: Case) -> None:
    """Outputs, gradients, the table, and all again with the same bits."""
    pair = Pair(backend, make_spec(c.dim))
    first = pair.embed(c, clock=Clock(1))
    gradient = first.check_grad(first.grads())
    pair.check()
    second = pair.embed(c, clock=Clock(2))
    for out, again in zip(first.outputs, second.outputs, strict=True):
        assert_same("output again", again, out)
    if gradient is not None:
        values, again = _sorted_values(backend, gradient), _sorted_values(backend, second.check_grad(first.grads()))
        assert_same("gradient again", again, values)
    pair.check()


def _sorted_values(backend: Recorded, gradient) -> torch.Tensor:
    ids, tables, _, values = backend.read_gradient(gradient)
    return values[by_key(ids, tables)]


def test_one_row_table(backend: Recorded) -> None:
    pair = Pair(backend, make_spec(max_rows=1))
    embedded = pair.embed(ONE_ROW)
    embedded.check_grad(embedded.grads())
    pair.check()


def test_several_tables_in_steps_equal_one_call(backend: Recorded) -> None:
    """partition, lookup, gather, pool give embed's outputs and gradient."""
    c = case("several_tables")
    whole, steps = Pair(backend, make_spec()), Pair(backend, make_spec())
    embedded = whole.embed(c)
    keys = backend.partition(steps.state, *tensors(c.ids, c.ordinals))
    steps.lookup(keys.ids.numpy(), keys.tables.numpy())
    state, rows, _ = backend.lookup(steps.state, keys.ids, keys.tables, mode=FIND, clock=Clock())
    values = backend.gather(state, rows, keys.ids, keys.tables)
    for bags, run, out in zip(make_call(c).requests, runs(c), embedded.outputs, strict=True):
        pooled = backend.pool(values, keys.inverse[run], bags.offsets, bags.weights, combiner=bags.combiner)
        assert_close("pool", out, pooled.double().numpy(), torch.float32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_half_gradients(backend: Recorded, dtype: torch.dtype) -> None:
    embedded = Pair(backend, make_spec()).embed(case("several_tables"))
    embedded.check_grad(embedded.grads(dtype))


def test_missing_gradients_are_zeros(backend: Recorded) -> None:
    embedded = Pair(backend, make_spec()).embed(case("several_tables"))
    first, second, third = embedded.grads()
    embedded.check_grad([None, second, None])
    embedded.check_grad([first, None, third])
    embedded.check_grad([None, None, None])


def test_no_gradients_to_weights_unless_asked(backend: Recorded) -> None:
    pair, c = Pair(backend, make_spec()), case("several_tables")
    asked = (False, True, False)
    _, outputs, saved, _ = backend.embed(
        pair.state, make_call(c), mode=LookupMode(), clock=Clock(), weights_need_grad=asked
    )
    _, to_weights = backend.embed_grad(saved, [torch.ones_like(out) for out in outputs])
    assert tuple(w is not None for w in to_weights) == asked


@pytest.mark.parametrize("unknown", ["zeros", "initial"])
def test_find_only(backend: Recorded, unknown: str) -> None:
    """Half the ids are known; nothing is inserted; there is no gradient but to weights."""
    pair, c = Pair(backend, make_spec()), case("several_tables")
    pair.embed(replace(c, features=tuple((ids % 25, t) for ids, t in c.features)))
    embedded = pair.embed(c, LookupMode(insert=False, unknown=unknown), Clock(1))
    gradient, to_weights = backend.embed_grad(embedded.saved, embedded.grads())
    assert gradient is None
    _, want = embedded.expected(embedded.grads())
    for bags, got, expected in zip(c.requests, to_weights, want, strict=True):
        if bags.weights is not None:
            assert_close("gradient to weights", got, expected, torch.float32, gradient=True)
    assert pair.reference.counters().unknown > 5
    pair.check()


@pytest.mark.parametrize("unknown", ["zeros", "initial"])
def test_find_and_learn(backend: Recorded, unknown: str) -> None:
    """Of half-known ids the known ones get the gradient they have beside unknown ones; two such add."""
    pair, c = Pair(backend, make_spec()), case("several_tables")
    pair.embed(replace(c, features=tuple((ids % 25, t) for ids, t in c.features)))
    embedded = pair.embed(c, LookupMode(insert=False, unknown=unknown, touch=False, learn=True), Clock(1))
    grads = embedded.grads()
    gradient, _ = backend.embed_grad(embedded.saved, grads)
    keys = pair.reference.keys(embedded.ids, embedded.tables)
    known = np.array([key in pair.reference.entries for key in keys])
    want = embedded.expected(grads)[0][known]
    assert 5 < known.sum() < len(known) - 5
    for got, factor in ((gradient, 1), (backend.combine([gradient, gradient]), 2)):
        ids, tables, rows, values = backend.read_gradient(got)
        order = by_key(ids, tables)
        assert ids[order].tolist() == embedded.ids[known].tolist()
        assert (rows >= 0).all()
        assert_close("gradient", values[order], factor * want, torch.float32, gradient=True)
        squares, _ = backend.measure(got)
        np.testing.assert_allclose(float(squares), ((factor * want) ** 2).sum(), rtol=1e-4)
    pair.check()


def test_bfloat16_table(backend: Recorded) -> None:
    pair = Pair(backend, make_spec(dtype="bfloat16"))
    embedded = pair.embed(case("several_tables"))
    embedded.check_grad(embedded.grads())
    pair.embed(case("several_tables"), LookupMode(insert=False, unknown="initial"))
    pair.check()


def test_recomputing(backend: Recorded) -> None:
    """Activation checkpointing runs a forward twice: same outputs, and scores and counters stay."""
    pair, c = Pair(backend, make_spec(score="count")), case("several_tables")
    first = pair.embed(c, clock=Clock(3))
    again = pair.embed(c, LookupMode(touch=False), Clock(3))
    for out, recomputed in zip(first.outputs, again.outputs, strict=True):
        assert_same("output", recomputed, out)
    pair.check()


def test_growth_counts_repeated_ids(backend: Recorded) -> None:
    """500 times one id: 16 buckets hold them at the maximum load only if doubled, by N and not by U."""
    pair = Pair(backend, make_spec())
    pair.embed(case("same_id_500_times"), clock=Clock(1))
    assert pair.reference.counters().buckets == 64
    pair.check()


def test_embed_evicts(backend: Recorded) -> None:
    pair = Pair(backend, make_spec(max_rows=60, evict=True))
    c = case("several_tables")
    for step in range(1, 6):
        shifted = replace(c, features=tuple((ids + 20 * step, t) for ids, t in c.features))
        embedded = pair.embed(shifted, clock=Clock(step, step))
        embedded.check_grad(embedded.grads())
    assert pair.reference.counters().evicted
    pair.check()


def test_ids_may_change_after_the_call(backend: Recorded) -> None:
    """A backward uses what the forward saw, whatever became of the caller's ids."""
    pair, c = Pair(backend, make_spec()), case("several_tables")
    call = make_call(c)
    need = tuple(r.weights is not None for r in call.requests)
    pair.state, outputs, saved, _ = backend.embed(
        pair.state, call, mode=LookupMode(), clock=Clock(), weights_need_grad=need
    )
    call.ids.fill_(0)
    ids, *_ = backend.read_gradient(backend.embed_grad(saved, [torch.ones_like(out) for out in outputs])[0])
    assert sorted(ids.tolist()) == sorted(np.concatenate([np.unique(c.ids[c.ordinals == t]) for t in range(3)]))
