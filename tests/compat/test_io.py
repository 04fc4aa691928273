"""ORC files as (stop, batch)."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from pyarrow import orc

from recis_core.compat.recis.io.filter_dataset import FilterDataset
from recis_core.compat.recis.io.orc_dataset import OrcDataset, get_dir_size
from recis_core.compat.recis.io.state_dataset import StateDataset
from recis_core.hashing import farmhash

TEXTS = [["a", "bc"], ["d"], [], ["a"], ["e"]]


@pytest.fixture
def path(tmp_path: Path) -> str:
    table = pa.table(
        {
            "label": [[float(i % 2)] for i in range(5)],
            "ids": [[1, 2], [3], [], [4], [5]],
            "seqs": [[[1], [2, 3]], [[4]], [], [[5]], [[6]]],
            "price": [0.5, 1.5, 2.5, 3.5, 4.5],
            "text": TEXTS,
        }
    )
    orc.write_table(table, str(tmp_path / "part-0.orc"))
    return str(tmp_path)


def dataset(path: str, batch_size: int = 2, **options) -> OrcDataset:
    made = OrcDataset(batch_size, transform_fn=lambda batches: batches[0], **options)
    made.add_paths([path])
    made.fixedlen_feature("label", [0.0])
    made.varlen_feature("ids")
    return made


def test_iteration_gives_batches_then_stops_for_ever(path: str) -> None:
    seen = list(islice(iter(dataset(path)), 5))
    assert [stop for stop, _ in seen] == [False, False, False, True, True]
    batch = seen[0][1]
    assert batch["label"].tolist() == [[0], [1]]
    assert (batch["ids"].values().tolist(), batch["ids"].offsets()[0].dtype) == ([1, 2, 3], torch.int32)
    assert batch["ids"].dense_shape == (2, -1)
    assert seen[3] == (True, None)


def test_all_arguments_may_be_positional_and_functions_get_lists(path: str) -> None:
    made = OrcDataset(
        5,
        0,
        1,
        1,
        None,
        0,
        False,
        False,
        None,
        False,
        True,
        [lambda batches: batches[0]["price"]],
        100,
        torch.float64,
        "cpu",
    )
    made.add_path(path)
    made.varlen_feature("price")
    assert next(iter(made))[1].dtype == torch.float64
    with pytest.raises(ValueError, match="is_compressed=True"):
        OrcDataset(5, is_compressed=True)
    with pytest.raises(ValueError, match="device must be cpu, cuda or pin"):
        OrcDataset(5, device="gpu")


def test_text_is_hashed_or_bytes_or_arrays(path: str) -> None:
    hashes = farmhash(torch.tensor(list(b"abcdae"), dtype=torch.uint8), torch.tensor([0, 1, 3, 4, 5, 6]))
    made = dataset(path, 5)
    made.varlen_feature("text", "farm")
    made.varlen_feature("seqs")
    batch = next(iter(made))[1]
    assert batch["text"].values().tolist() == (hashes & (2**63 - 1)).tolist()
    assert batch["text"].offsets()[0].tolist() == [0, 2, 3, 3, 4, 5]
    assert len(batch["seqs"].offsets()) == 2
    small, plain, raw = dataset(path, 5), dataset(path, 5), dataset(path, 5)
    small.varlen_feature("text", "farm", 1000)
    assert next(iter(small))[1]["text"].values().tolist() == [int(h) % (1 << 64) % 1000 for h in hashes]
    raw.varlen_feature("text", trans_int8=True)
    letters = next(iter(raw))[1]["text"]
    assert (letters.dtype, bytes(letters.values().tolist()), len(letters.offsets())) == (torch.int8, b"abcdae", 2)
    plain.varlen_feature("text")
    texts, offsets = next(iter(plain))[1]["text"]
    assert (texts.tolist(), offsets.tolist()) == ([b"a", b"bc", b"d", b"a", b"e"], [0, 2, 3, 3, 4, 5])
    numbers = dataset(path)
    numbers.varlen_feature("price", "murmur")
    with pytest.raises(TypeError, match="hash_type is for text; column 'price'"):
        next(iter(numbers))
    with pytest.raises(ValueError, match="farm or murmur"):
        numbers.varlen_feature("text", "sha")


def test_a_position_is_saved_and_read(path: str) -> None:
    made = dataset(path)
    batches = iter(made)
    next(batches)
    state = made.dump_io_state()
    other = dataset(path)
    other.load_io_state(state)
    assert next(iter(other))[1]["ids"].values().tolist() == [4]
    assert dataset(path, save_interval=0).dump_io_state() is None
    with pytest.raises(ValueError, match="one sub-worker"):
        other.load_io_state({0: {}, 1: {}})
    assert made._worker_num == 1


def test_filters_maps_sparse_columns_and_sizes(path: str) -> None:
    made = OrcDataset(2, ragged_format=False)
    made.add_path(path)
    made.varlen_feature("ids")
    made.map(lambda batches: batches[0]["ids"])
    made.filter(lambda batches: 4 in batches[0]["ids"].values())
    (_, first), (_, second) = islice(iter(made), 2)
    assert first.to_dense().tolist() == [[1, 2], [3, 0]]
    assert second.to_dense().tolist() == [[5]]
    assert made.get_dir_size() == [get_dir_size(path)] == [get_dir_size(f"{path}/part-0.orc")]
    assert list(FilterDataset([1, 2, 3], [lambda n: n == 2, lambda n: n == 3])) == [1]


def test_a_state_dataset_writes_positions_into_a_mapping(path: str) -> None:
    import threading

    source, positions = dataset(path)._source, {}
    made = StateDataset(source, threading.Lock(), positions, save_interval=2)
    with pytest.raises(RuntimeError, match="before the first batch"):
        made.dump_io_state()
    list(islice(iter(made), 2))
    assert made.dump_io_state() is positions
    assert positions[0]["cuts"][0][2] == 4


def test_names_of_alibabas_readers_say_the_way_out() -> None:
    from recis_core.compat.recis.io.window_io import TableSheet

    assert TableSheet("t", 0, 5).end == 5
    with pytest.raises(ImportError, match="make_odps_window_io reads Alibaba's MaxCompute"):
        from recis_core.compat.recis.io.window_io import make_odps_window_io  # noqa: F401
    with pytest.raises(ImportError, match="LakeStreamDataset reads"):
        from recis_core.compat.recis.io import LakeStreamDataset  # noqa: F401
    with pytest.raises(ImportError, match="OdpsDataset reads"):
        from recis_core.compat.recis.io.odps_dataset import OdpsDataset  # noqa: F401
