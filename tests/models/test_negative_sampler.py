"""Draws follow frequencies and the table's rows; a state goes on with the same draws."""

from __future__ import annotations

import gc

import pytest
import torch

from recis_core.models import ExactFrequency, NegativeSampler, StreamingFrequency, all_ids
from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseSGD

IDS = torch.tensor([-5, 3, 2**60, 8])
COUNTS = torch.tensor([1, 2, 4, 9])
SEEN = IDS.repeat_interleave(COUNTS)


def table_of(ids=IDS, **options):
    engine = EmbeddingEngine({"item": EmbeddingOption(2, backend="torch", **options)})
    if len(ids):
        engine({"item": ids})
    return engine.table("item")


def frequencies(ids, known=IDS):
    return torch.tensor([(ids == each).double().mean() for each in known])


@pytest.mark.parametrize("alpha", [0.0, 0.75, 1.0])
def test_draws_are_by_frequency_to_the_power_of_alpha(alpha):
    sampler = NegativeSampler(table_of(), alpha=alpha)
    sampler.update(SEEN)
    drawn = sampler.sample(20_000)
    q = COUNTS.double() ** alpha
    q = q / q.sum()
    torch.testing.assert_close(frequencies(drawn.ids), q, atol=0.015, rtol=0)
    by_id = dict(zip(IDS.tolist(), q.log().tolist(), strict=True))
    assert drawn.log_q.tolist() == pytest.approx([by_id[i] for i in drawn.ids.tolist()], abs=1e-5)
    torch.testing.assert_close(sampler.log_q(IDS).double(), q.log(), atol=1e-5, rtol=0)


def test_same_seed_same_draws():
    def draws(seed):
        sampler = NegativeSampler(table_of(), seed=seed)
        sampler.update(SEEN)
        return [sampler.sample(10).ids.tolist() for _ in range(3)]

    assert draws(1) == draws(1)
    assert draws(1) != draws(2)
    assert draws(1)[0] != draws(1)[1]


def test_it_follows_rows_that_come_and_never_draws_one_that_went():
    table = table_of(IDS[:2])
    sampler = NegativeSampler(table, alpha=0, refresh=3)
    assert set(sampler.sample(100).ids.tolist()) == set(IDS[:2].tolist())
    table(IDS)
    assert set(sampler.sample(100).ids.tolist()) == set(IDS[:2].tolist())  # not listed anew yet
    table.erase(IDS[:1])
    assert set(sampler.sample(100).ids.tolist()) == set(IDS[1:].tolist())  # at once, for a row has gone
    sampler.sample(0)
    table(torch.tensor([77]))
    sampler.sample(0)
    assert 77 in sampler.sample(100).ids.tolist()
    table.clear()
    assert sampler.sample(5).ids.tolist() == []


def test_evicted_rows_are_never_drawn():
    engine = EmbeddingEngine({"item": EmbeddingOption(2, backend="torch", filter_hook="lru(2)")})
    optimizer = SparseSGD(engine.sparse_parameters(), 0.1)
    engine({"item": IDS})["item"].sum().backward()
    optimizer.step()
    sampler = NegativeSampler(engine.table("item"), alpha=0)
    assert set(sampler.sample(100).ids.tolist()) == set(IDS.tolist())
    engine.evict()
    left = set(engine.table("item").ids().tolist())
    assert len(left) == 2
    assert set(sampler.sample(100).ids.tolist()) == left


def test_an_empty_table_has_none_and_ids_without_a_count_count_as_one():
    table = table_of(IDS[:0])
    sampler = NegativeSampler(table, alpha=1, refresh=1)
    assert sampler.sample(3).ids.tolist() == []
    sampler.update(torch.tensor([3, 3, 3]))
    table(torch.tensor([3, 8]))
    shares = frequencies(sampler.sample(20_000).ids, [3, 8])
    torch.testing.assert_close(shares, torch.tensor([0.75, 0.25]).double(), atol=0.015, rtol=0)


@pytest.mark.parametrize("frequency", [ExactFrequency, lambda: StreamingFrequency(64)])
def test_a_run_that_goes_on_draws_as_one_that_never_stopped(frequency):
    def run(stop):
        table = table_of(IDS[:2])
        sampler = NegativeSampler(table, frequency=frequency(), refresh=10)
        found = []
        for step in range(6):
            if step == 3:
                state = sampler.state_dict()
                if stop:
                    sampler = NegativeSampler(table, frequency=frequency(), refresh=10)
                    sampler.load_state_dict(state)
            table(IDS[: step + 1])
            sampler.update(SEEN[: 2 * step])
            found.append(sampler.sample(20))
        return torch.cat([each.ids for each in found]), torch.cat([each.log_q for each in found])

    for whole, resumed in zip(run(False), run(True), strict=True):
        assert torch.equal(whole, resumed)


def test_a_state_is_a_copy_and_a_foreign_one_is_refused():
    sampler = NegativeSampler(table_of())
    sampler.update(SEEN)
    state = sampler.state_dict()
    sampler.update(SEEN)
    assert state["frequency"]["counts"].sum() == len(SEEN)
    for wrong in ({"draws": 1}, {"draws": 1, "frequency": {"step": 3}}):
        with pytest.raises(ValueError, match="must have"):
            sampler.load_state_dict(wrong)
    with pytest.raises(ValueError, match="hashes, buckets and rate"):
        StreamingFrequency(8).load_state_dict(StreamingFrequency(9).state_dict())


def test_a_sampler_that_is_gone_watches_no_table():
    table = table_of()
    sampler = NegativeSampler(table)
    assert len(table.physical.observers) == 1
    del sampler
    gc.collect()
    assert table.physical.observers == []


def test_wrong_arguments_are_named():
    table = table_of()
    with pytest.raises(TypeError, match="engine.table"):
        NegativeSampler(torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="got -1, 0 and 100"):
        NegativeSampler(table, alpha=-1)
    with pytest.raises(ValueError, match="whole number of draws"):
        NegativeSampler(table).sample(-1)
    with pytest.raises(TypeError, match="int64"):
        NegativeSampler(table).update(torch.tensor([1.0]))


def test_all_ids_of_one_rank():
    assert all_ids(table_of()).tolist() == sorted(IDS.tolist())


def test_streaming_shares_follow_frequencies_and_their_change():
    frequency, p = StreamingFrequency(4096, rate=0.05), torch.tensor([0.9, 0.5, 0.2])
    there = torch.rand(600, 3, generator=torch.Generator().manual_seed(0)) < p
    found = torch.zeros(3).double()
    for step, batch in enumerate(there):
        frequency.update(torch.arange(3)[batch].repeat(2))  # a batch counts an id once
        found += torch.where(batch & (step >= 300), frequency.share(torch.arange(3)), 0)  # of ids that have just come
    found = 1.5 * found / there[300:].sum(0)  # 1.5 distinct ids a batch
    torch.testing.assert_close(found, p.double(), rtol=0.35, atol=0)
    for _ in range(100):
        frequency.update(torch.tensor([2]))
    assert frequency.share(torch.tensor([2])) > 10 * frequency.share(torch.tensor([1]))
    assert 0 < frequency.share(torch.tensor([99])) < 0.01


def test_more_hashes_mend_collisions():
    """64 ids of each batch and 20 of the first alone, in 128 buckets: these share a bucket with a frequent one, or not."""

    def overestimates(hashes):
        frequency, rare = StreamingFrequency(128, hashes=hashes), torch.arange(1000, 1020)
        frequency.update(rare)
        for _ in range(50):
            frequency.update(torch.arange(64))
        return int((frequency.share(rare) > 0.1 / 64).sum())

    assert overestimates(4) < overestimates(1)


def test_exact_shares_are_counts():
    frequency = ExactFrequency()
    assert frequency.share(IDS).tolist() == [1, 1, 1, 1]
    for part in SEEN.split(5):
        frequency.update(part)
    assert torch.equal(frequency.share(IDS), COUNTS / COUNTS.sum().double())
    with pytest.raises(ValueError, match="rate in"):
        StreamingFrequency(rate=0)
