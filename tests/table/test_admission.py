"""Who gets a row, what the others read, and what training makes of both; against dicts and numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.checkpoint import checkpoint

from recis_core import backends
from recis_core.backends import Clock, LookupCall, LookupMode, Request, TableSpec
from recis_core.backends.initial_values import Distribution
from recis_core.nn import AdmitHook, HashTable
from recis_core.optim import SparseSGD
from recis_core.table.admission.admitting_storage import AdmittingStorage
from recis_core.table.admission.gate import Gate
from recis_core.table.plain_storage import PlainStorage
from recis_core.table.storage import Storage
from tests.contract.compare import assert_same
from tests.table.admitting import D, DictOfFrequencies, bags, engine_of, initial

BATCHES = [  # of three bags, 12 ids: repeats in a bag, across bags, across batches
    ([1, 1, 2, 9], [3, 1], [4, 5, 6, 7, 8, -2]),
    ([2, 3, 3, 9], [1, 10], [2, 2, 11, 12, 13, -2]),
    ([9, 1, 2, 3], [10, 7], [10, 14, 15, 16, 17, -2]),
]
LR = 0.5


@pytest.mark.parametrize(
    ("name", "unknown", "combiner"),
    [("torch", "initial", "mean"), ("numba", "zeros", "mean"), ("pallas", "initial", "sum")],
)
def test_frequency_against_numpy(name: str, unknown: str, combiner: str) -> None:
    """Ids at their third occurrence; a rejected one reads as unknown, counts in the mean's divisor, and learns nothing."""
    engine = engine_of(backend=name, admit_hook="frequency(3)", unknown=unknown, combiner=combiner)
    optimizer, who, rows = SparseSGD(engine.sparse_parameters(), lr=LR), DictOfFrequencies(3), {}
    for batch in BATCHES:
        ids = [i for bag in batch for i in bag]
        who.see(ids)
        rows |= {i: initial("f", [i])[0] for i in who.admitted - rows.keys()}
        out = engine({"f": bags(*batch)})["f"]
        want = np.stack([_pooled(bag, rows, unknown, combiner) for bag in batch])
        np.testing.assert_allclose(out.detach().numpy(), want, rtol=1e-5, atol=1e-6)
        (out * torch.tensor([1.0, 2.0, 3.0])[:, None]).sum().backward()
        optimizer.step()
        for number, bag in enumerate(batch, 1):
            for i in bag:
                if i in rows:
                    rows[i] = rows[i] - LR * np.float32(number / (len(bag) if combiner == "mean" else 1))
        table = engine.table("f")
        assert table.ids().tolist() == sorted(rows)
        np.testing.assert_allclose(table.embeddings().numpy(), np.stack([rows[i] for i in sorted(rows)]), rtol=1e-5)
    assert rows.keys() == {1, 2, 3, 9, 10, -2}


def _pooled(bag: list[int], rows: dict[int, np.ndarray], unknown: str, combiner: str) -> np.ndarray:
    nothing = {i: initial("f", [i])[0] if unknown == "initial" else np.zeros(D, np.float32) for i in bag}
    total = sum(rows.get(i, nothing[i]) for i in bag)
    return total / len(bag) if combiner == "mean" else total


def _with_forty_ids(name: str, hook: AdmitHook | None) -> Storage:
    """Of a table that has ids 0 … 39 already, in two logical tables."""
    plain = backends.get(name)
    spec = TableSpec(D, (7, 3), rows=64, seed=5, distribution=Distribution("uniform", -1.0, 1.0))
    ids = torch.arange(40)
    state, *_ = plain.lookup(plain.create(spec), ids, (ids % 2).int(), mode=LookupMode(), clock=Clock())
    rows = PlainStorage(plain, spec)
    storage: Storage = rows if hook is None else AdmittingStorage(rows, Gate(hook, spec))
    storage.restore(plain.export(state))
    return storage


@pytest.mark.parametrize("name", ["torch", "numba", "jax", pytest.param("pallas", marks=pytest.mark.full)])
def test_the_admitted_are_as_without_it(name: str) -> None:
    """Bit by bit: outputs of bags without rejected ids, gradients, weights' gradients, scores and stamps."""
    ids = torch.tensor([1, 7, 7, 21, 901, 901, 5, 900, 7, 33, 4, 2, 38, 902, 6])
    rejected = {900, 902}
    weighted = Request("mean", torch.tensor([0, 2, 5]), torch.linspace(0.5, 2, 5))
    call = LookupCall(ids, (10, 5), (1, 0), (Request("sum", torch.tensor([0, 3, 6, 10])), weighted))
    results = []
    for hook in (None, AdmitHook("Frequency", {"threshold": 2})):
        storage = _with_forty_ids(name, hook)
        outputs, saved, _ = storage.embed(call, mode=LookupMode(), clock=Clock(3, 3), weights_need_grad=(False, True))
        gradient, to_weights = storage.embed_grad(saved, [torch.full_like(o, 0.3) for o in outputs])
        found, tables, _, values = storage.read_gradient(gradient)
        by_key = dict(zip(zip(tables.tolist(), found.tolist(), strict=True), values, strict=True))
        results.append((outputs, by_key, to_weights[1], storage.marks(), storage.counters()))
    (plain, all_keys, w, marks, _), (admitting, by_key, v, kept, counters) = results
    assert_same("first request", admitting[0][:2], plain[0][:2])
    assert_same("second request", admitting[1][:1], plain[1][:1])
    assert_same("gradient of weights", v[:2], w[:2])
    assert by_key.keys() == {key for key in all_keys if key[1] not in rejected}
    for key, values in by_key.items():
        assert_same(f"gradient of {key}", values, all_keys[key])
    at = torch.tensor([i not in rejected for i in marks.ids.tolist()])
    for field in ("ids", "tables", "scores", "stamps"):
        assert_same(field, getattr(kept, field), getattr(marks, field)[at])
    assert (counters.found, counters.inserted, counters.unknown, counters.rows) == (9, 1, 0, 41)


KEYS = st.lists(st.lists(st.integers(-4, 12), max_size=12), max_size=8)


@settings(deadline=None)
@given(batches=KEYS, threshold=st.integers(1, 5), evicted=st.sets(st.integers(-4, 12), max_size=4))
def test_frequency_against_a_dict(batches: list[list[int]], threshold: int, evicted: set[int]) -> None:
    """Whatever the batches; an id that was erased half way begins to be counted anew."""
    table = HashTable([D], backend="numba", admit_hook=AdmitHook("Frequency", {"threshold": threshold}))
    who = DictOfFrequencies(threshold)
    for number, ids in enumerate(batches):
        if number == 4:
            table.physical.erase(torch.tensor(sorted(evicted), dtype=torch.int64), 0)
            who.admitted -= evicted
        table(torch.tensor(ids, dtype=torch.int64))
        who.see(ids)
        assert set(table.ids().tolist()) == who.admitted
        assert len(table.physical.storage.gate.policy.counter) == len(who.seen)


def test_counts_of_what_happened() -> None:
    table = HashTable([D], admit_hook="frequency(2)")
    table(torch.tensor([1, 1, 2, 3]))
    table(torch.tensor([1, 2, 4]))
    stats = table.stats()
    assert (stats["admitted"], stats["rejected"], stats["inserted"], stats["found"]) == (2, 3, 2, 1)
    assert stats["counter_overflow"] == 0


def test_named_tables_count_apart() -> None:
    engine = engine_of(["f", "g"], admit_hook="frequency(2)")
    assert engine.table("f").physical is engine.table("g").physical
    engine({"f": torch.tensor([1, 2]), "g": torch.tensor([1, 3])})
    engine({"f": torch.tensor([5, 2]), "g": torch.tensor([4, 3])})
    assert (engine.table("f").ids().tolist(), engine.table("g").ids().tolist()) == ([2], [3])


def test_only_training_counts() -> None:
    """Neither evaluation, nor a read-only lookup, nor a forward that is run again."""
    table = HashTable([D], admit_hook="frequency(3)")
    ids = torch.tensor([1, 2])
    table.eval()(ids)
    table.train()(ids, AdmitHook("ReadOnly"))
    assert len(table.physical.storage.gate.policy.counter) == 0
    out = checkpoint(lambda x: table(ids) * x, torch.ones(1, requires_grad=True), use_reentrant=False)
    out.sum().backward()
    table(ids)
    assert not len(table.ids())
    table(ids)
    assert table.ids().tolist() == [1, 2]


def test_checkpointed_gradients() -> None:
    """Of a forward that is run again the admitted ids get theirs, once, and the rejected none."""
    table = HashTable([D], admit_hook="frequency(2)")
    ids = torch.tensor([1, 1, 2])
    checkpoint(lambda x: table(ids) * x, torch.ones(1, requires_grad=True), use_reentrant=False).sum().backward()
    rows, values = table.grad()
    assert rows.tolist() == table.lookup_index(torch.tensor([1])).tolist()
    assert values.tolist() == [[2.0] * D]


def test_what_is_inserted_or_loaded_is_admitted() -> None:
    table = HashTable([D], admit_hook="frequency(9)")
    table(torch.tensor([5]))
    table.insert(torch.tensor([5, 6]), torch.ones(2, D))
    assert len(table.physical.storage.gate.policy.counter) == 0
    assert table(torch.tensor([5, 6, 7]))[:, 0].tolist() == [1.0, 1.0, 0.0]
    other = HashTable([D], admit_hook="frequency(9)")
    other.load_state_dict(table.state_dict())
    assert other.ids().tolist() == [5, 6]


def test_observers_hear_of_the_admitted_alone() -> None:
    table = HashTable([D], admit_hook="frequency(2)")
    heard: list[int] = []
    table.physical.observers.append(lambda ids, ordinals: heard.extend(ids.tolist()))
    table(torch.tensor([1, 1, 2]))
    assert heard == [1]


def test_probability() -> None:
    """Rate within four deviations; the same in every run; other in another step, table and seed."""
    ids, p = torch.arange(20_000), 0.1

    def admitted(seed: int = 0, step: int = 0, name: str = "t") -> set[int]:
        table = HashTable([D], admit_hook=AdmitHook("Probability", {"p": p}), seed=seed, name=name)
        table.physical.step = step
        table(ids)
        return set(table.ids().tolist())

    first = admitted()
    assert abs(len(first) - p * len(ids)) < 4 * (p * (1 - p) * len(ids)) ** 0.5
    assert admitted() == first
    for other in (admitted(seed=1), admitted(step=1), admitted(name="u")):
        assert abs(len(other & first) - p * p * len(ids)) < 4 * (p * p * len(ids)) ** 0.5


def test_probability_draws_once_a_step() -> None:
    table, ids = HashTable([D], admit_hook="probability(.3)"), torch.arange(1000)
    table(ids)
    first = table.ids().tolist()
    table(ids)
    assert table.ids().tolist() == first
    table.physical.step += 1
    table(ids)
    assert len(table.ids()) > 1.4 * len(first)


def test_a_lookup_cannot_bring_a_policy_of_its_own() -> None:
    with pytest.raises(ValueError, match="is a table's"):
        HashTable([D])(torch.tensor([1]), AdmitHook("Frequency", {"threshold": 2}))
