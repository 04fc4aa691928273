"""A table in tiers against one that fits, where calls, backwards and steps come in unusual order or do not fit.

Sizes: B bags of a batch, D dim.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from recis_core.backends.errors import TableFull
from recis_core.nn import CacheConfig, EmbeddingEngine
from recis_core.optim import clip_grad_norm_, join
from recis_core.ragged import RaggedTensor
from tests.contract.compare import assert_same
from tests.tiers.training import D, adam, assert_same_engines, cache_in, engine_of, tiers_of, unchanged
from tests.training.loop import B, Batch, loss_of, random_batches, train

Forward = Callable[[Batch], Tensor]


@pytest.fixture(params=["torch", "numba", pytest.param("jax", marks=pytest.mark.full)])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def both(backend: str, tmp_path: Path) -> Callable[..., tuple[EmbeddingEngine, EmbeddingEngine]]:
    """(a table that fits, one in tiers) of the same options."""

    def build(device_rows: int | str = 8, host_rows: int | str = 12, **options: Any) -> tuple[Any, Any]:
        cache = cache_in(tmp_path, device_rows, host_rows)
        return engine_of(None, backend=backend, **options), engine_of(cache, backend=backend, **options)

    return build


def run(engine: EmbeddingEngine, step: Callable[[Forward, list[Batch]], None], per_step: int = 2) -> EmbeddingEngine:
    """Steps of an order of forwards and backwards, each on batches of its own."""
    optimizer, batches = adam(engine), random_batches(10 * per_step, 60)

    def forward(batch: Batch) -> Tensor:
        return loss_of(engine(batch))

    for beg in range(0, len(batches), per_step):
        step(forward, batches[beg : beg + per_step])
        optimizer.step()
    return engine


def one_by_one(forward: Forward, batches: list[Batch]) -> None:
    for batch in batches:
        forward(batch).backward()


def both_then_backward(forward: Forward, batches: list[Batch]) -> None:
    torch.stack([forward(batch) for batch in batches]).sum().backward()


def first_backward_after_second_forward(forward: Forward, batches: list[Batch]) -> None:
    losses = [forward(batch) for batch in batches]
    for loss in losses:
        loss.backward()


def last_backward_first(forward: Forward, batches: list[Batch]) -> None:
    losses = [forward(batch) for batch in batches]
    for loss in reversed(losses):
        loss.backward()


def retained_twice(forward: Forward, batches: list[Batch]) -> None:
    first, second = (forward(batch) for batch in batches)
    first.backward(retain_graph=True)
    second.backward()
    first.backward()


def the_same_batch_twice(forward: Forward, batches: list[Batch]) -> None:
    torch.stack([forward(batches[0]), forward(batches[0])]).sum().backward()


def a_forward_without_backward(forward: Forward, batches: list[Batch]) -> None:
    forward(batches[0])
    forward(batches[1]).backward()
    forward(batches[0]).backward()


ORDERS = [
    one_by_one,
    both_then_backward,
    first_backward_after_second_forward,
    last_backward_first,
    retained_twice,
    the_same_batch_twice,
    a_forward_without_backward,
]


@pytest.mark.parametrize("device_rows", [4, 16])
@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.__name__)
def test_orders_of_a_step(both: Any, order: Any, device_rows: int) -> None:
    """A device that holds no batch, and one that holds one micro-batch and not both."""
    plain, tiered = both(device_rows)
    assert_same_engines(run(tiered, order), run(plain, order))
    counts = tiers_of(tiered).stats.counts
    assert counts["overflowed"] > 0 if device_rows == 4 else counts["evicted"] > 0


def test_a_graph_retained_over_a_step(both: Any) -> None:
    """Its rows stay where they are though others want their place."""
    engines = both(24)
    for engine in engines:
        optimizer, batches = adam(engine), random_batches(8, 60)
        first = loss_of(engine(batches[0]))
        first.backward(retain_graph=True)
        optimizer.step()
        train(engine, optimizer, batches[1:])
        first.backward()
        optimizer.step()
    assert_same_engines(engines[1], engines[0])


def test_zero_grad_then_step(both: Any) -> None:
    engines = both()
    for engine in engines:
        optimizer = adam(engine)
        for number, batch in enumerate(random_batches(12, 60)):
            loss_of(engine(batch)).backward()
            if number % 3 == 1:
                optimizer.zero_grad()
            optimizer.step()
        batch = {"f": torch.arange(60)}
        train(engine, optimizer, [batch])
    assert_same_engines(engines[1], engines[0])


@pytest.mark.parametrize("unique", [1, 8, 9, 500])
def test_a_batch_of_so_many_ids_on_a_device_of_eight(both: Any, unique: int) -> None:
    engines = both(8)
    batches = [{"f": torch.arange(unique) * 7 + shift} for shift in (0, 3, 0, 7)]
    losses = [train(engine, adam(engine), batches) for engine in engines]
    assert losses[0] == losses[1]
    assert_same_engines(engines[1], engines[0])
    assert len(tiers_of(engines[1]).device) <= 8


def test_a_call_that_does_not_fit_is_counted_once(both: Any) -> None:
    """Its rows are read for the forward and for the update, and are asked for once."""
    _, tiered = both(8, 100)
    counts, optimizer, batch = tiers_of(tiered).stats.counts, adam(tiered), {"f": torch.arange(20).repeat(2)}
    train(tiered, optimizer, [batch])
    want = {"occurrences": 40, "occurrence_hits": 0, "hits_device": 0, "hits_host": 0, "hits_disk": 0, "new": 20}
    assert {name: counts[name] for name in want} == want
    train(tiered, optimizer, [batch])
    want |= {"occurrences": 80, "occurrence_hits": 16, "hits_device": 8, "hits_host": 12}
    assert {name: counts[name] for name in want} == want


def test_a_call_without_ids(both: Any) -> None:
    engines = both()
    none = {"f": torch.zeros(0, dtype=torch.int64)}
    for engine in engines:
        train(engine, adam(engine), [none, *random_batches(3, 60), none])
        engine.eval()
        assert engine(none)["f"].shape == (0, D)
    assert_same_engines(engines[1], engines[0])


@pytest.mark.parametrize("unknown", ["zeros", "initial"])
def test_eval_reads_through_all_tiers_and_changes_no_row(both: Any, unknown: str) -> None:
    engines = both(unknown=unknown)
    for engine in engines:
        train(engine, adam(engine), random_batches(8, 60))
    asked = [{"f": ids} for ids in (torch.arange(-20, 80), torch.arange(1000, 1020), torch.arange(5))]
    with unchanged(tiers_of(engines[1]), but_for_uses=True):
        for batch in asked:
            got, want = (engine.eval()(batch)["f"] for engine in reversed(engines))
            assert_same("rows", got, want)
    assert not torch.equal(want, torch.zeros_like(want))


def test_eval_between_a_forward_and_its_backward(both: Any) -> None:
    engines = both()
    for engine in engines:
        optimizer = adam(engine)
        for batch in random_batches(10, 60):
            loss = loss_of(engine(batch))
            with torch.no_grad():
                engine.eval()({"f": torch.arange(60)})
            engine.train()
            loss.backward()
            optimizer.step()
    assert_same_engines(engines[1], engines[0])


def test_rows_that_were_seen_and_never_updated_stay(both: Any) -> None:
    """As eval tells: an unknown id would read as zeros."""
    engines = both(trainable=False)
    for engine in engines:
        for batch in random_batches(8, 60):
            engine(batch)
        engine.eval()
    assert_same_engines(engines[1], engines[0])
    got, want = (engine({"f": torch.arange(60)})["f"] for engine in reversed(engines))
    assert_same("rows", got, want)


def test_eval_counts_unknown_ids(both: Any) -> None:
    engines = both()
    for engine in engines:
        train(engine, adam(engine), random_batches(8, 60))
        for ids in (torch.arange(1000, 1010), torch.arange(-5, 80)):  # none of it known, and some of it in each tier
            engine.eval()({"f": ids})
    plain, tiered = (engine.table("f").stats() for engine in engines)
    assert tiered["unknown"] == plain["unknown"] > 10


def test_policy_none_is_full_before_anything_changed(tmp_path: Path, backend: str) -> None:
    engine = engine_of(cache_in(tmp_path, 20, policy="none"), backend=backend)
    optimizer = adam(engine)
    train(engine, optimizer, [{"f": torch.arange(18)}])
    with (
        unchanged(tiers_of(engine)),
        pytest.raises(TableFull, match=r"device holds 20 .*Raise device_bytes or device_rows"),
    ):
        engine({"f": torch.arange(15, 25)})
    assert train(engine, optimizer, [{"f": torch.arange(20)}])


def test_a_full_host_without_a_disk_loses_nothing(backend: str) -> None:
    """It says so at the call after the one that filled it; with room again, training goes on."""
    cache = CacheConfig(device_rows=8, host_rows=12, policy="lru")
    plain, tiered = engine_of(backend=backend), engine_of(cache, backend=backend)
    optimizers, batches = (adam(plain), adam(tiered)), random_batches(10, 60)
    losses: list[float] = []
    with pytest.raises(TableFull, match=r"host_bytes or host_rows.*CacheConfig\(disk=DIR\)"):
        losses.extend(train(tiered, optimizers[1], [batch])[0] for batch in batches)
    done = len(losses)
    assert 0 < done < len(batches)
    train(plain, optimizers[0], batches[:done])
    assert_same_engines(tiered, plain)
    with pytest.raises(TableFull):
        tiered(batches[done])
    tiers_of(tiered).lower.host_rows = 1000
    train(plain, optimizers[0], batches[done:])
    train(tiered, optimizers[1], batches[done:])
    assert_same_engines(tiered, plain)


def test_an_optimizer_attached_after_rows_were_loaded(both: Any) -> None:
    engines = both()
    rows = torch.linspace(-1, 1, 50 * D).reshape(50, D)
    for engine in engines:
        engine.table("f").insert(torch.arange(50), rows)
        engine.train()(random_batches(1, 60)[0])
        engine.eval()
        assert_same("rows", engine({"f": torch.arange(50)})["f"], rows)
        train(engine.train(), adam(engine), random_batches(10, 60))
        engine.table("f").insert(torch.arange(0, 50, 3), rows[::3])
    assert_same_engines(engines[1], engines[0])


def test_erased_rows_begin_anew_wherever_they_lay(both: Any) -> None:
    engines = both()
    for engine in engines:
        optimizer, table = adam(engine), engine.table("f")
        for number, batch in enumerate(random_batches(12, 60)):
            train(engine, optimizer, [batch])
            table.physical.erase(torch.arange(number, 60, 7), table.ordinal)
    assert_same_engines(engines[1], engines[0])
    assert tiers_of(engines[1]).known_rows() == len(engines[0].table("f").ids())


def test_two_logical_tables_in_one_storage(both: Any) -> None:
    """The same ids in both are other rows; one is cleared, the other stays."""
    engines = both(12, 20, features="ab")
    for engine in engines:
        optimizer, batches = adam(engine), random_batches(16, 60, "ab")
        train(engine, optimizer, batches[:8])
        engine.table("a").clear()
        train(engine, optimizer, batches[8:])
    assert engines[1].table("a").physical is engines[1].table("b").physical
    assert_same_engines(engines[1], engines[0])


COMBINERS = {"sum": {}, "mean": {}, "sqrtn": {}, "none": {}, "tile": {"combiner_kwargs": {"tile_len": 3}}}


@pytest.mark.parametrize("combiner", COMBINERS)
@pytest.mark.parametrize("device_rows", [6, 30])
def test_combiners_and_weights_that_need_gradients(both: Any, combiner: str, device_rows: int) -> None:
    """Two forwards before their backwards; the weights' gradients need rows that may have had to leave."""
    engines = both(device_rows, combiner=combiner, **COMBINERS[combiner])
    grads: list[list[Tensor]] = [[], []]
    for engine, seen in zip(engines, grads, strict=True):
        optimizer, batches = adam(engine), random_batches(12, 60)
        for first, second in zip(batches[::2], batches[1::2], strict=True):
            weights = [torch.linspace(0.5, 1.5, B).requires_grad_() for _ in range(2)]
            losses = [loss_of(engine({"f": ragged(x["f"], w)})) for x, w in zip((first, second), weights, strict=True)]
            for loss in losses:
                loss.backward()
            optimizer.step()
            seen += [w.grad for w in weights if w.grad is not None]
    assert len(grads[0]) == len(grads[1]) == 12
    for got, want in zip(grads[1], grads[0], strict=True):
        assert_same("gradient of weights", got, want)
    assert_same_engines(engines[1], engines[0])


def ragged(ids: Tensor, weights: Tensor) -> RaggedTensor:
    """Bags of 0, 1, 2, … ids; the last takes the rest."""
    ends = [min(n * (n + 1) // 2, len(ids)) for n in range(5)]
    return RaggedTensor(ids, torch.tensor([0, *ends, len(ids)]), weight=weights)


class Model(nn.Module):
    def __init__(self, engine: EmbeddingEngine) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.engine = engine
        self.tower = nn.Sequential(nn.Linear(D, 8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, batch: Batch) -> Tensor:
        return self.tower(self.engine(batch)["f"]).square().sum()


def joint(engine: EmbeddingEngine) -> tuple[Model, Any]:
    model = Model(engine)
    return model, join(torch.optim.SGD(model.parameters(), lr=0.1), adam(engine))


def test_a_scaled_run_whose_gradients_overflow_twice(both: Any) -> None:
    engines = both()
    for engine in engines:
        model, optimizer = joint(engine)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        for number, batch in enumerate(random_batches(10, 60)):
            optimizer.zero_grad()
            loss = model(batch) * (float("inf") if number in (3, 6) else 1.0)
            scaler.scale(loss).backward()
            if number % 2:
                scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
        assert scaler.get_scale() == 2.0**8
    assert_same_engines(engines[1], engines[0])


def test_clipping_by_the_norm_over_both_sides(both: Any) -> None:
    engines = both()
    norms: list[list[float]] = [[], []]
    for engine, seen in zip(engines, norms, strict=True):
        model, optimizer = joint(engine)
        for first, second in zip(random_batches(8, 60), random_batches(8, 60, seed=1), strict=True):
            optimizer.zero_grad()
            model(first).backward()
            model(second).backward()
            seen.append(float(clip_grad_norm_(optimizer, 0.5)))
            optimizer.step()
    np.testing.assert_allclose(norms[1], norms[0], rtol=1e-6)  # rows are summed in another order
    assert max(norms[0]) > 0.5
