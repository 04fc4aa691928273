"""Several sources as one: shares by weight, the same draws by the same seed, resumed exactly."""

import json
from collections import Counter

import pytest

from recis_core.io import MixedDataset
from tests.io.opened_rows import opened, rows_of, taken, write


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    write(folder / "a.parquet", 0, 400)
    write(folder / "b.parquet", 1000, 50)

    def make(until="all", where=(0, 1), **options):
        each = {name: opened(folder / f"{name}.parquet", where, batch_size=2, shuffle=True) for name in "ab"}
        return MixedDataset({"a": (each["a"], 3.0), "b": (each["b"], 1)}, seed=4, until=until, **options)

    return make


def test_all_rows_of_all_sources(sources):
    names = []
    mixed = sources(name_key="from")
    rows = []
    for batch in mixed:
        assert mixed.source == batch["from"]
        names.append(batch["from"])
        rows += batch["row"].tolist()
    assert sorted(rows) == [*range(400), *range(1000, 1050)]
    shares = Counter(names[:80])
    assert 0.6 < shares["a"] / 80 < 0.9


def test_until_the_first_ends_the_others_go_on_in_the_next_epoch(sources):
    mixed = sources("first")
    epochs = [rows_of(mixed) for _ in range(3)]
    for rows in epochs:
        assert len(set(rows)) == len(rows)
    assert set(range(1000, 1050)) <= set(epochs[0]) & set(epochs[1])
    of_a = [row for rows in epochs for row in rows if row < 1000]
    assert sorted(of_a[:400]) == sorted(set(of_a[:400]))
    assert len(of_a) > 200


@pytest.mark.parametrize("until", ["all", "first"])
def test_resumes_exactly(sources, until):
    whole = sources(until)
    first = rows_of(whole)
    expected = first + rows_of(whole)
    part = sources(until)
    for batches in (0, 23, len(first) // 2):
        seen, _ = taken(part, batches)
        again = sources(until)
        again.load_state_dict(json.loads(json.dumps(part.state_dict())))
        assert seen + rows_of(again) + rows_of(again) == expected, batches
        part = sources(until)
    list(part)
    again = sources(until)
    again.load_state_dict(part.state_dict())
    assert rows_of(part) == rows_of(again)


def test_other_numbers_of_workers(sources):
    shares = [sources(where=(k, 2)) for k in range(2)]
    seen = [row for share in shares for row in taken(share, 30)[0]]
    states = [share.state_dict() for share in shares]
    for k in range(3):
        dataset = sources(where=(k, 3))
        dataset.load_state_dict(states)
        seen += rows_of(dataset)
    assert sorted(seen) == [*range(400), *range(1000, 1050)]


def test_steps_and_errors(sources):
    mixed = sources().filter(lambda batch: batch["row"] < 1000).map(lambda batch: {"row": batch["row"] + 1})
    assert sorted(rows_of(mixed)) == list(range(1, 401))
    state = sources().state_dict()
    with pytest.raises(ValueError, match="mixed must be"):
        sources("first").load_state_dict(state)
    with pytest.raises(ValueError, match="sources must be a, b, as then; got c"):
        MixedDataset({"c": (mixed.sources["a"], 1.0)}, seed=4).load_state_dict(state)
    for weights in ({}, {"a": (mixed.sources["a"], 0.0)}, {"a": (mixed.sources["a"], float("inf"))}):
        with pytest.raises(ValueError, match="must"):
            MixedDataset(weights)
    first = iter(mixed)
    next(first)
    next(iter(mixed))
    with pytest.raises(RuntimeError, match="a MixedDataset has one iterator"):
        next(first)


def test_a_position_that_one_source_refuses_moves_none(sources):
    part, mixed = sources(), sources()
    taken(part, 9)
    taken(mixed, 3)
    state, before = part.state_dict(), mixed.state_dict()
    last = list(state["sources"])[-1]
    state["sources"][last]["shuffle_seed"] = 12345
    with pytest.raises(ValueError, match="shuffle_seed must be"):
        mixed.load_state_dict(state)
    assert mixed.state_dict() == before


def test_ranks_share_each_batch(sources):
    whole, parts = list(sources()), [sources() for _ in range(2)]
    for rank, part in enumerate(parts):
        part.share_batches(rank, 2)
    for batch, *mine in zip(whole, *parts, strict=True):
        assert batch["row"].tolist() == [row for each in mine for row in each["row"].tolist()]
