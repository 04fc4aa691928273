"""Ids of text are the same however a file holds it: as codes, as plain values, nested; and each value is hashed once."""

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.orc
import pyarrow.parquet as pq
import pytest
from torch.utils.data import DataLoader

import recis_core.io.text_columns as text_columns
from recis_core.io import dataset_of, hash_strings

N = 3000
WORDS = [f"word {k % 90}" for k in range(N)]
LONG = [f"{k:06d}" * 60 for k in range(N)]  # 1.08 MB of distinct values: a writer gives the dictionary up


def table():
    nulls = [None if k % 7 == 0 else word for k, word in enumerate(WORDS)]
    lists = [[word] * (k % 3) for k, word in enumerate(WORDS)]
    return pa.table({"word": WORDS, "null": nulls, "long": LONG, "bytes": [w.encode() for w in WORDS], "list": lists})


@pytest.mark.parametrize("options", [{}, {"shuffle": True, "shuffle_buffer": 500}])
@pytest.mark.parametrize("how", ["codes", "plain", "orc"])
def test_ids_of_text(tmp_path, how, options):
    path = tmp_path / ("x.orc" if how == "orc" else "x.parquet")
    if how == "orc":
        pa.orc.write_table(table(), path)
    else:
        pq.write_table(table(), path, use_dictionary=how == "codes")
    dataset = dataset_of(path)(700, prefetch=0, **options)
    dataset.add_path(path)
    for name in table().column_names:
        dataset.id_feature(name)
    found = {name: [] for name in table().column_names}
    for batch in dataset:
        for name, column in batch.items():
            offsets = column.offsets()[0].tolist()
            ids = column.values().tolist()
            found[name] += [tuple(ids[a:b]) for a, b in itertools.pairwise(offsets)]
    for name, column in table().to_pydict().items():
        rows = [value if isinstance(value, list) else [] if value is None else [value] for value in column]
        distinct = sorted({value for row in rows for value in row})
        ids = dict(zip(distinct, hash_strings(distinct).tolist(), strict=True))
        wanted = [tuple(ids[value] for value in row) for row in rows]
        assert (sorted(found[name]) if options else found[name]) == (sorted(wanted) if options else wanted), name


def test_codes_are_hashed_once_and_only_where_all_values_are_codes(tmp_path, monkeypatch):
    pq.write_table(table(), tmp_path / "x.parquet")
    dataset = dataset_of(tmp_path / "x.parquet")(N, prefetch=0)
    dataset.add_path(tmp_path / "x.parquet")
    for name in ("word", "null", "long"):
        dataset.id_feature(name)
    hashed, plain = [], text_columns.hash_texts
    monkeypatch.setattr(
        text_columns, "hash_texts", lambda columns, kind: hashed.append(columns) or plain(columns, kind)
    )
    list(dataset)
    (columns,) = hashed  # all in one call
    kinds = [pa.types.is_dictionary(column.type) for column in columns]
    assert kinds == [True, True, False]
    assert len(columns[0].chunk(0).dictionary) == 90


def test_a_filter_by_a_column_of_text_that_is_read_as_ids(tmp_path):
    pq.write_table(table(), tmp_path / "x.parquet")
    dataset = dataset_of(tmp_path / "x.parquet")(N, prefetch=0)
    dataset.add_path(tmp_path / "x.parquet")
    dataset.id_feature("word")
    dataset.filter(pc.field("word") == "word 3")
    (batch,) = dataset
    assert np.unique(batch["word"].values()).tolist() == hash_strings(["word 3"]).tolist()


def test_under_forked_workers_of_a_process_that_hashed_before(tmp_path):
    pq.write_table(table(), tmp_path / "x.parquet", row_group_size=800)
    dataset = dataset_of(tmp_path / "x.parquet")(500)
    dataset.add_path(tmp_path / "x.parquet")
    dataset.id_feature("word")
    here = [i for batch in dataset for i in batch["word"].values().tolist()]
    loader = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="fork")
    assert sorted(i for batch in loader for i in batch["word"].values().tolist()) == sorted(here)
    assert sorted(here) == sorted(hash_strings(WORDS).tolist())
