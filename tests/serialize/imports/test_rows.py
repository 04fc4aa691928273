"""Arrays, nn.Embedding with its dictionary, and Parquet files as tables."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from recis_core.errors import StateMismatch
from recis_core.io import hash_strings
from recis_core.serialize.imports import arrays_source, embedding_source, parquet_source
from recis_core.serialize.imports.repeated_ids import repeated_ids


def only(source, rows=3):
    [table] = source.tables.values()
    found = list(table.blocks(rows))
    return torch.cat([block.ids for block in found]), torch.cat([block.rows for block in found])


def test_arrays(tmp_path, caplog):
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    np.save(tmp_path / "rows.npy", rows)
    source = arrays_source("item", [7, -1, 7, 2**62], np.load(tmp_path / "rows.npy", mmap_mode="r"), t=3)
    ids, found = only(source)
    assert ids.tolist() == [7, -1, 2**62]
    assert torch.equal(found, torch.from_numpy(rows[[0, 1, 3]]))
    assert "table item: 1 rows have the id of an earlier row" in caplog.text
    unsigned = np.array([2**64 - 1], np.uint64)
    [block] = arrays_source("a", unsigned, np.ones((1, 2)), slots={"sum": np.full((1, 1), 2.0)}).tables["a"].blocks()
    assert block.ids.tolist() == [-1]
    assert block.slots["sum"].dtype == torch.float32
    with pytest.raises(ValueError, match="rows must have a row for each of 2 ids"):
        arrays_source("a", [1, 2], np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"rows must be floats \[n, dim\]; got torch.int64"):
        arrays_source("a", [1], np.ones((1, 2), np.int64))
    with pytest.raises(TypeError, match="ids must be integers"):
        arrays_source("a", np.array(["x"]), np.ones((1, 2)))
    with pytest.raises(StateMismatch, match="arrays: row 1 of table 'a', id 6, holds NaN"):
        list(arrays_source("a", [5, 6], np.array([[1.0], [np.inf]])).tables["a"].blocks())


def test_repeated_ids_in_several_passes():
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randint(-50, 50, (n,), generator=generator) for n in (40, 0, 7, 33)]
    wanted, seen = [], set()
    for n, i in enumerate(torch.cat(parts).tolist()):
        if i in seen:
            wanted.append(n)
        seen.add(i)
    pieces = [lambda part=part: iter(part.split(8)) for part in parts]
    for at_once in (1000, 16, 1):
        assert repeated_ids(pieces, at_once).positions.tolist() == wanted
    assert repeated_ids([]).count == 0


def test_an_embedding_and_its_dictionary():
    embedding = nn.Embedding(5, 3, padding_idx=0)
    ids, rows = only(embedding_source("category", embedding, {"shoes": 2, "hats": 1, b"\xff": 4}))
    assert torch.equal(ids, hash_strings(["shoes", "hats", b"\xff"]))
    assert torch.equal(rows, embedding.weight.detach()[[2, 1, 4]])
    ids, rows = only(embedding_source("user", embedding.weight, {2**64 - 2: 3, 10: 3}))
    assert ids.tolist() == [-2, 10]
    assert torch.equal(rows[0], rows[1])
    for vocabulary, error, told in (
        ({"a": 5}, ValueError, "names row 5 for 'a'; the embedding has rows 0 to 4"),
        ({"a": 1, 2: 2}, TypeError, "all integers or all texts"),
        ({1.5: 1}, TypeError, "got float"),
        ({-1: 0, 2**64 - 1: 1}, ValueError, f"raw ids -1 and {2**64 - 1} are one id, -1"),
        ({2**64: 1}, ValueError, "must have 64 bits"),
    ):
        with pytest.raises(error, match=told):
            embedding_source("t", embedding, vocabulary)


VECTORS = {
    "list": lambda rows: {"vector": pa.array(rows.tolist(), pa.list_(pa.float32()))},
    "fixed": lambda rows: {"vector": pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])},
    "columns": lambda rows: {f"f{n}": rows[:, n] for n in range(rows.shape[1])},
}


@pytest.mark.parametrize("kind", VECTORS)
def test_parquet(tmp_path, kind):
    rows = np.arange(30, dtype=np.float32).reshape(10, 3)
    columns = {"id": np.arange(10) * -3, **VECTORS[kind](rows)}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", row_group_size=4)
    pq.write_table(pa.table(columns).slice(0, 0), tmp_path / "b.parquet")
    vector = ["f0", "f1", "f2"] if kind == "columns" else "vector"
    source = parquet_source("item", tmp_path, vector=vector)
    assert (source.tables["item"].dim, source.tables["item"].dtype) == (3, torch.float32)
    ids, found = only(source)
    assert ids.tolist() == columns["id"].tolist()
    assert torch.equal(found, torch.from_numpy(rows))


def test_parquet_of_text_ids_and_slots(tmp_path):
    table = {
        "name": pa.array(["b", "a", "b"]).dictionary_encode(),
        "e": [[1.0], [2.0], [3.0]],
        "sum": [[5.0], [6.0], [7.0]],
    }
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    source = parquet_source("item", tmp_path / "a.parquet", id="name", vector="e", slots=["sum"])
    [block] = source.tables["item"].blocks()
    assert torch.equal(block.ids, hash_strings(["b", "a"]))
    assert block.rows.tolist() == [[1.0], [2.0]]
    assert block.rows.dtype == torch.float64
    assert block.slots["sum"].tolist() == [[5.0], [6.0]]


def test_parquet_that_is_no_table(tmp_path):
    def refused(told, table, **how):
        pq.write_table(pa.table(table), tmp_path / "a.parquet", row_group_size=2)
        with pytest.raises(StateMismatch, match=told):
            list(parquet_source("item", tmp_path / "a.parquet", **how).tables["item"].blocks(2))

    fine = [[1.0], [2.0], [3.0]]
    refused(r"a\.parquet has no column 'id'; it has key, vector", {"key": [1, 2, 3], "vector": fine})
    refused(r"a\.parquet: row 2 of column 'id' is null \(table 'item'\)", {"id": [1, 2, None], "vector": fine})
    refused(
        "row 2 of column 'vector' has 2 numbers, where the first has 1",
        {"id": [0, 1, 2, 3], "vector": [[1.0], [2.0], [1.0, 2.0], [3.0]]},
    )
    refused("null inside a list", {"id": [1, 2], "vector": [[1.0], [None]]})
    refused("must hold lists of floats; got double", {"id": [1], "vector": [1.0]})
    refused("must hold floats; got int64", {"id": [1], "vector": [[1]]})
    refused("ids must be integers or text; got double", {"id": [1.5], "vector": [[1.0]]})
    refused(r"a\.parquet: row 1 of table 'item', id 8, holds NaN", {"id": [7, 8], "vector": [[1.0], [float("nan")]]})
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not")
    with pytest.raises(ValueError, match="cannot be read as Parquet"):
        parquet_source("item", tmp_path / "a.parquet")
    with pytest.raises(FileNotFoundError):
        parquet_source("item", tmp_path / "nothing.parquet")
