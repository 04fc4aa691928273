"""Ranks that take their rows of every batch make, together, the batches of one process."""

import pytest
import torch

from recis_core.io import OrcDataset, ParquetDataset, SyntheticClicks, write_orc, write_parquet

CLICKS = SyntheticClicks("tiny")
FIELDS = [field.name for field in CLICKS.preset.fields]
ROWS, BATCH = 1003, 100  # the last batch holds 3 rows: with 4 ranks, none for the first


@pytest.fixture(params=["synthetic", "parquet", "orc"])
def make(request, tmp_path):
    """A function that opens the same log anew."""
    if request.param == "synthetic":
        return lambda: CLICKS.dataset(BATCH, stop=ROWS)
    write, kind = {"parquet": (write_parquet, ParquetDataset), "orc": (write_orc, OrcDataset)}[request.param]
    file = tmp_path / f"clicks.{request.param}"
    write(CLICKS, file, ROWS)

    def dataset():
        opened = kind(BATCH)
        opened.add_path(file)
        opened.fixedlen_feature("label", default_value=[0.0])
        for name in FIELDS:
            opened.varlen_feature(name)
        return opened

    return dataset


def shared(make, rank, world):
    dataset = make()
    dataset.share_batches(rank, world)
    return dataset


@pytest.mark.parametrize("world", [1, 3, 4])
def test_together_they_make_each_batch(make, world):
    whole = list(make())
    parts = [list(shared(make, rank, world)) for rank in range(world)]
    assert [len(p) for p in parts] == [len(whole)] * world == [11] * world
    for batch, *mine in zip(whole, *parts, strict=True):
        assert torch.equal(torch.cat([m["label"] for m in mine]), batch["label"])
        sizes = [len(m["label"]) for m in mine]
        assert max(sizes) - min(sizes) <= 1
        for name in FIELDS:
            assert torch.equal(torch.cat([m[name].values() for m in mine]), batch[name].values())
            assert torch.equal(torch.cat([m[name].lengths() for m in mine]), batch[name].lengths())
    if world == 4:
        assert [len(p[-1]["label"]) for p in parts] == [0, 1, 1, 1]


def test_a_position_counts_the_rows_of_all(make):
    dataset = shared(make, 1, 3)
    seen = iter(dataset)
    next(seen), next(seen)
    state = dataset.state_dict()
    assert state["cuts"] == [[0, 1, 2 * BATCH]]
    rest = [batch["label"] for batch in seen]
    again = shared(make, 1, 3)
    again.load_state_dict(state)
    for a, b in zip(again, rest, strict=True):
        assert torch.equal(a["label"], b)


def test_a_rank_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"rank must be in \[0, world = 2\)"):
        CLICKS.dataset(BATCH).share_batches(2, 2)
