"""Files of one data set that hold a column in two types: they are read as one, or refused before the first batch.

Every pair under RECIS_TEST_FULL=1.
"""

import os

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from recis_core.io import ArrowDataset, hash_strings

FULL = os.environ.get("RECIS_TEST_FULL") == "1"
INTS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(), pa.bool_()]
TEXTS = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.large_binary(),
    pa.binary_view(),
    pa.binary(1),
]


def numbers():
    plain = pa.array([1, 0])
    yield from (plain.cast(kind) for kind in INTS)
    yield from (plain.cast(pa.decimal128(20, 0)), plain.dictionary_encode(), pc.run_end_encode(plain), pa.nulls(2))


def texts():
    plain = pa.array(["1", "0"])
    yield from (pa.array([b"1", b"0"], kind) if "binary" in str(kind) else plain.cast(kind) for kind in TEXTS)
    yield from (plain.dictionary_encode(), pc.run_end_encode(plain), pa.nulls(2))


def floats():
    yield from (pa.array([1.0, 0.0]).cast(kind) for kind in (pa.float16(), pa.float32(), pa.float64()))


def lists():
    for inner in (pa.int8(), pa.int64(), pa.uint32()):
        kinds = (
            pa.list_(inner),
            pa.large_list(inner),
            pa.list_(inner, 1),
            pa.list_view(inner),
            pa.large_list_view(inner),
        )
        yield from (pa.array([[1], [0]], kind) for kind in kinds)
    yield pa.ListArray.from_arrays([0, 1, 2], pa.array([1, 0]).dictionary_encode())
    yield pa.nulls(2)


def times():
    day = 86_400
    yield from (pa.array([1, 0], pa.date32()), pa.array([day * 1000, 0], pa.date64()))
    yield from (pa.array([day * 10**n, 0], pa.timestamp(u)) for n, u in ((0, "s"), (3, "ms"), (6, "us"), (9, "ns")))


FAMILIES = {"numbers": numbers, "texts": texts, "floats": floats, "lists": lists, "times": times}
HOW = {
    "numbers": ("id_feature", {}), "texts": ("id_feature", {}), "floats": ("varlen_feature", {}),
    "lists": ("id_feature", {}), "times": ("id_feature", {"unit": "day"}),
}  # fmt: skip


def written(memory):
    """{family: [(URL, whether all are null)]}; columns stand in another order in every second file."""
    found = {}
    for family, arrays in FAMILIES.items():
        for n, array in enumerate(arrays()):
            path = f"/pairs/{family}-{n}.arrow"
            columns = {"x": array, "other": pa.array([7, 8])}
            table = pa.table(columns if n % 2 else dict(reversed(columns.items())))
            sink = pa.BufferOutputStream()
            with pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
            memory.pipe(path, sink.getvalue().to_pybytes())
            found.setdefault(family, []).append((f"memory://{path}", array.null_count == 2))
    return found


def read(urls, method, how):
    dataset = ArrowDataset(100, prefetch=0, read_threads_num=1)
    getattr(dataset, method)("x", **how)
    dataset.add_paths(urls)
    return [batch["x"] for batch in dataset]


def test_pairs_of_a_family_are_one_type():
    memory = fsspec.filesystem("memory")
    try:
        files = written(memory)
        ids = {"texts": hash_strings(["1", "0"]).tolist()}
        for family, urls in files.items():
            method, how = HOW[family]
            for apart in range(1, len(urls)) if FULL else (1, len(urls) - 2):
                for n, (first, no_first) in enumerate(urls):
                    second, no_second = urls[(n + apart) % len(urls)]
                    [ragged] = read([first, second], method, how)
                    wanted = ids.get(family, [1, 0]) * (2 - no_first - no_second)
                    assert (ragged.values().tolist(), len(ragged)) == (wanted, 4), (family, first, second)
        for family, urls in files.items():
            for other, theirs in files.items():
                for (first, null), (second, nothing) in zip(urls, np.roll(theirs, 1, axis=0).tolist(), strict=False):
                    if family != other and not null and nothing != "True" and {family, other} != {"numbers", "times"}:
                        refused(first, second)
    finally:
        memory.store.clear()


def refused(first, second):
    """By both files' names, before the first batch."""
    dataset = ArrowDataset(100)
    dataset.varlen_feature("x")
    dataset.add_path(first)
    with pytest.raises(TypeError) as error:
        dataset.add_path(second)
    names = [url.rsplit("/", 1)[1] for url in (first, second)]
    assert all(name in str(error.value) for name in names), str(error.value)
    assert "column 'x'" in str(error.value)
