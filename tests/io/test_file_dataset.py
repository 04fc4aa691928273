"""ParquetDataset and OrcDataset: every row once, resumed exactly, and errors that name the file and column."""

import itertools
import json
import threading

import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet
import pytest
import torch
from torch.utils.data import DataLoader

from recis_core.backends.errors import RecisError
from recis_core.io import OrcDataset, ParquetDataset
from recis_core.ragged import RaggedTensor

FILES, ROWS = 3, 101  # rows of file k: ROWS + k
TOTAL = sum(ROWS + k for k in range(FILES))


def table(begin, rows):
    numbers = range(begin, begin + rows)
    return pa.table(
        {
            "row": pa.array(numbers, pa.int64()),
            "ids": pa.array([[i, -i] if i % 3 else None for i in numbers], pa.list_(pa.int64())),
            "label": pa.array([[float(i % 2)] for i in numbers], pa.list_(pa.float64())),
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("files")
    begin = 0
    for k in range(FILES):
        part = table(begin, ROWS + k)
        pyarrow.parquet.write_table(part, path / f"part-{k}.parquet", row_group_size=23)
        with pyarrow.orc.ORCWriter(path / f"part-{k}.orc", stripe_size=1, batch_size=23) as writer:
            writer.write(part)
        begin += ROWS + k
    return path


@pytest.fixture(params=[ParquetDataset, OrcDataset])
def opened(request, folder):
    def make(batch_size=16, *where, **options):
        dataset = request.param(batch_size, *where, **options)
        dataset.add_path(folder)
        dataset.varlen_feature("ids")
        dataset.fixedlen_feature("row", 0)
        dataset.fixedlen_feature("label", default_value=[0.0])
        return dataset

    return make


def rows_of(batches):
    return [int(row) for batch in batches for row in batch["row"]]


def test_batches_hold_what_was_written(opened):
    batches = list(opened(16))
    assert rows_of(batches) == list(range(TOTAL))
    assert [len(batch["row"]) for batch in batches[:-1]] == [16] * (len(batches) - 1)
    assert len(batches) == len(opened(16))
    first = batches[0]
    assert first["ids"].values()[:4].tolist() == [1, -1, 2, -2]
    assert first["ids"].offsets()[0][:5].tolist() == [0, 0, 2, 4, 4]
    assert (first["label"].shape, first["label"].dtype) == ((16, 1), torch.float32)
    assert torch.equal(first["label"][:, 0].long(), first["row"] % 2)


@pytest.mark.parametrize("workers", [2, 3, 5])
@pytest.mark.parametrize("shuffle", [False, True])
def test_workers_read_every_row_once(opened, workers, shuffle):
    shares = [list(opened(16, k, workers, shuffle=shuffle)) for k in range(workers)]
    assert sorted(row for share in shares for row in rows_of(share)) == list(range(TOTAL))
    assert len({len(share) for share in shares}) == 1


def test_drop_remainder(opened):
    shares = [list(opened(16, k, 4, drop_remainder=True)) for k in range(4)]
    assert [[len(batch["row"]) for batch in share] for share in shares] == [[16] * (TOTAL // 4 // 16)] * 4


def test_shuffle_is_by_seed_and_epoch(opened):
    dataset = opened(16, shuffle=True, seed=5)
    first, second = rows_of(dataset), rows_of(dataset)
    assert sorted(first) == sorted(second) == list(range(TOTAL))
    assert first != second
    assert rows_of(opened(50, shuffle=True, seed=5)) == first
    assert rows_of(opened(16, shuffle=True, seed=6)) != first


@pytest.mark.parametrize("prefetch", [0, 3])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("taken", [0, 1, 4, 7])
def test_resumes_exactly(opened, prefetch, shuffle, taken):
    options = {"prefetch": prefetch, "shuffle": shuffle}
    whole, part = opened(16, 1, 2, **options), opened(16, 1, 2, **options)
    expected = rows_of(whole) + rows_of(whole)
    batches = iter(part)
    seen = rows_of([next(batches) for _ in range(taken)])
    state = json.loads(json.dumps(part.state_dict()))
    again = opened(16, 1, 2, **options)
    again.load_state_dict(state)
    assert again.state_dict() == state
    assert seen + rows_of(again) + rows_of(again) == expected


def test_resumes_with_another_batch_size(opened):
    part = opened(16)
    batches = iter(part)
    next(batches)
    again = opened(50)
    again.load_state_dict(part.state_dict())
    assert rows_of(again) == list(range(16, TOTAL))


def test_positions_of_others_are_refused(opened):
    state = opened(16, 0, 2).state_dict()
    with pytest.raises(ValueError, match="worker_num differs .* worker 1 of 2 is missing"):
        opened(16, 0, 3).load_state_dict(state)
    with pytest.raises(ValueError, match="worker 1 of 2 is missing"):
        opened(16, 1, 2).load_state_dict(state)
    with pytest.raises(ValueError, match="shuffle_seed must be None"):
        opened(16, 0, 2, shuffle=True).load_state_dict(state)
    with pytest.raises(TypeError, match="a position is the dict that state_dict"):
        opened(16, 0, 2).load_state_dict(3)


@pytest.mark.parametrize("shuffle", [False, True])
def test_windows_share_the_rows(opened, shuffle):
    edges, found = [0, 7, 150, 150, TOTAL], []
    for begin, end in itertools.pairwise(edges):
        seen = []
        for worker in range(2):
            dataset = opened(16, worker, 2, shuffle=shuffle)
            dataset.window(begin, end)
            assert dataset.rows == end - begin
            seen += rows_of(dataset)
        assert sorted(seen) == list(range(begin, end))
        found += seen
    assert (found == list(range(TOTAL))) == (not shuffle)


def test_wrong_windows_are_refused(opened, folder):
    dataset = opened()
    with pytest.raises(ValueError, match=rf"must lie in the {TOTAL} rows there are; got 5 to {TOTAL + 1}"):
        dataset.window(5, TOTAL + 1)
    dataset.window(5, 9)
    assert rows_of(dataset) == [5, 6, 7, 8]
    with pytest.raises(ValueError, match="add_path must come before window"):
        dataset.add_path(folder)
    with pytest.raises(ValueError, match="window must be"):
        opened().load_state_dict(dataset.state_dict())


def test_columns_tell_what_is_there(opened):
    assert {name: str(kind).split("<")[0] for name, kind in opened().columns.items()} == {
        "row": "int64",
        "ids": "list",
        "label": "list",
    }
    assert ParquetDataset(1).columns == {}


def test_a_file_that_shrank_is_noticed(tmp_path):
    pyarrow.parquet.write_table(table(0, 50), tmp_path / "x.parquet")
    dataset = ParquetDataset(20)
    dataset.add_path(tmp_path / "x.parquet")
    dataset.varlen_feature("ids")
    pyarrow.parquet.write_table(table(0, 30), tmp_path / "x.parquet")
    with pytest.raises(RecisError, match="fewer rows than when it was added"):
        list(dataset)


def test_a_new_pass_begins_anew(opened):
    dataset = opened(16)
    next(iter(dataset))
    assert rows_of(dataset) == list(range(TOTAL))


def test_map_and_filter_in_order(opened):
    dataset = opened(16, transform_fn=lambda batch: {**batch, "double": batch["row"] * 2})
    dataset.filter(lambda batch: batch["double"] % 4 == 0)
    dataset.map(lambda batch: {"row": batch["row"], "ids": batch["ids"]})
    dataset.filter(lambda batch: int(batch["row"][0]) < 100)
    batches = list(dataset)
    assert rows_of(batches) == list(range(0, 112, 2))
    ids = torch.cat([batch["ids"].values() for batch in batches])
    assert ids.tolist() == [x for i in range(0, 112, 2) if i % 3 for x in (i, -i)]


def test_sparse_instead_of_ragged(opened):
    sparse, ragged = next(iter(opened(16, ragged_format=False)))["ids"], next(iter(opened(16)))["ids"]
    assert sparse.is_sparse
    assert torch.equal(sparse.to_dense(), ragged.to_dense())


def test_errors_in_the_thread_reach_the_loop(opened):
    def fails(batch):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        next(iter(opened(16).map(fails)))


def test_no_thread_is_left(opened):
    before = set(threading.enumerate())
    batches = iter(opened(1, prefetch=2, read_threads_num=3))
    next(batches)
    del batches
    assert set(threading.enumerate()) <= before


def test_missing_column_names_file_column_and_what_is_there(opened):
    dataset = opened()
    with pytest.raises(ValueError, match=r"part-0\.(orc|parquet) has no column 'item'; it has row, ids, label\."):
        dataset.varlen_feature("item")


def test_wrong_kind_of_column(tmp_path):
    pyarrow.parquet.write_table(pa.table({"s": pa.array([{"a": 1}])}), tmp_path / "x.parquet")
    dataset = ParquetDataset(4)
    dataset.add_path(tmp_path / "x.parquet")
    with pytest.raises(TypeError, match=r"column 's' of .*x\.parquet must be numbers, text, dates.*; got struct"):
        dataset.varlen_feature("s")


def test_paths_that_name_nothing(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match="add_path must name at least one file"):
        ParquetDataset(4).add_path(tmp_path / "*.parquet")
    with pytest.raises(FileNotFoundError, match="matches none"):
        OrcDataset(4).add_path(tmp_path)
    dataset = ParquetDataset(4)
    dataset.add_paths([folder / "part-[01].parquet", folder / "part-2.parquet"])
    assert dataset.rows == TOTAL
    with pytest.raises(ValueError, match="was added before"):
        dataset.add_path(folder)


def test_nothing_to_read(folder):
    dataset = ParquetDataset(4)
    with pytest.raises(ValueError, match="has no files to read"):
        next(iter(dataset))
    dataset.add_path(folder)
    with pytest.raises(ValueError, match="reads no columns"):
        next(iter(dataset))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1; got 0"),
        ({"batch_size": 1, "worker_idx": 2, "worker_num": 2}, r"worker_idx must be in \[0, worker_num = 2\); got 2"),
        ({"batch_size": 1, "prefetch": -1}, "prefetch must be >= 0; got -1"),
        ({"batch_size": 1, "read_threads_num": 0}, "read_threads_num must be at least 1; got 0"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        ParquetDataset(**options)


def test_hashing_belongs_to_features():
    with pytest.raises(ValueError, match=r"Use id_feature\('c'\)"):
        ParquetDataset(4).varlen_feature("c", hash_type="farm")


def test_a_data_loader_without_workers(opened):
    assert rows_of(DataLoader(opened(), batch_size=None)) == list(range(TOTAL))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batches_on_the_gpu(opened):
    for batch, expected in zip(opened(device="cuda", prefetch=2), opened(), strict=True):
        assert isinstance(batch["ids"], RaggedTensor)
        assert batch["ids"].device.type == batch["row"].device.type == "cuda"
        assert torch.equal(batch["ids"].values().cpu(), expected["ids"].values())
    assert next(iter(opened(device="pin")))["row"].is_pinned()
