"""Units of time, nulls, maps and unsigned ids: what a column's values become, and what is refused."""

import datetime
import itertools
import logging

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recis_core.io import ParquetDataset, dataset_of, hash_strings
from recis_core.io.nulls import NullRule, filled
from recis_core.io.rows import RowError
from recis_core.io.time_units import NANOSECONDS, counted
from tests.io.files import opened, write


def rows(ragged):
    return [ragged.values()[a:b].tolist() for a, b in itertools.pairwise(ragged.offsets()[0].tolist())]


def read(path, method, name, **how):
    dataset = dataset_of(str(path))(100)
    dataset.add_path(path)
    getattr(dataset, method)(name, **how)
    [batch] = dataset
    return batch[name]


def refused(path, method, name, **how):
    with pytest.raises((ValueError, TypeError)) as error:
        read(path, method, name, **how)
    return str(error.value)


# Times.

CLOCKS = [pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in (None, "Europe/Rome")]
CLOCKS += [pa.duration("ms"), pa.date32(), pa.date64(), pa.time32("s"), pa.time64("us")]


def test_units_of_every_clock_as_python_counts_them():
    rng = np.random.default_rng(0)
    for kind in CLOCKS:
        own = "day" if kind == pa.date32() else "ms" if kind == pa.date64() else kind.unit
        day = NANOSECONDS["day"] // NANOSECONDS[own]
        stored = rng.integers(
            0 if pa.types.is_time(kind) else -200 * day, min(200, 1 if pa.types.is_time(kind) else 200) * day, 50
        )
        if kind == pa.date64():
            stored = stored // day * day
        width = pa.int32() if pa.types.is_date32(kind) or pa.types.is_time32(kind) else pa.int64()
        values = pa.array([*stored.tolist(), None], width).view(kind)
        for unit, nanoseconds in NANOSECONDS.items():
            wanted = [int(count) * NANOSECONDS[own] // nanoseconds for count in stored]
            assert counted(values, unit).to_pylist() == [*wanted, None], (kind, unit)


def test_units_by_every_method(tmp_path):
    moments = [datetime.datetime(1969, 12, 31, 23, 59, 59, 999_999), datetime.datetime(2024, 1, 1, 1), None]
    write(tmp_path / "a.parquet", t=pa.array(moments, pa.timestamp("us")), d=pa.array([-1, 19723, None], pa.date32()))
    for name, unit, wanted in (
        ("t", "day", [-1, 19723]), ("t", "s", [-1, 19723 * 86400 + 3600]), ("d", "hour", [-24, 19723 * 24]),
        ("t", "min", [-1, 19723 * 1440 + 60]), ("d", None, [-1, 19723]), ("t", None, [-1, 1704070800 * 10**6]),
    ):  # fmt: skip
        for method in ("varlen_feature", "id_feature"):
            assert rows(read(tmp_path / "a.parquet", method, name, unit=unit)) == [[wanted[0]], [wanted[1]], []]
        fixed = read(tmp_path / "a.parquet", "fixedlen_feature", name, default_value=7, unit=unit)
        assert fixed.tolist() == [*wanted, 7]


def test_in_a_unit_dates_and_timestamps_go_together(tmp_path):
    write(tmp_path / "a.parquet", t=pa.array([1], pa.date32()))
    write(tmp_path / "b.parquet", t=pa.array([2 * 86400], pa.timestamp("s")))
    assert rows(read(tmp_path, "id_feature", "t", unit="day")) == [[1], [2]]
    assert "do not go together" in refused(tmp_path, "id_feature", "t")


def test_units_that_are_refused(tmp_path):
    write(tmp_path / "a.parquet", t=pa.array([1, 2**60], pa.timestamp("ms")), n=[1, 2])
    for unit in ("us", "ns"):
        said = refused(tmp_path / "a.parquet", "id_feature", "t", unit=unit)
        assert "a.parquet, column 't', row 1 (the first is 0): must be a timestamp that " in said
    assert "to be counted in unit='s'; got int64" in refused(tmp_path / "a.parquet", "varlen_feature", "n", unit="s")
    assert "must be one of ns, us, ms, s, min, hour, day; got 'year'" in refused(
        tmp_path / "a.parquet", "id_feature", "t", unit="year"
    )


# Nulls.

DEEP = [[[1, None], None], None, [[]], [None, [2]]]


def test_nulls_at_every_level(tmp_path):
    lists, text = [[1, None], None, [], [2]], ["a", None, "b", ""]
    write(tmp_path / "a.parquet", deep=DEEP, flat=[1, None, 3, 4], lists=lists, text=text)
    path = tmp_path / "a.parquet"
    for name, drop, default in (
        ("flat", [[1], [], [3], [4]], [[1], [9], [3], [4]]),
        ("lists", [[1], [], [], [2]], [[1, 9], [9], [], [2]]),
    ):
        for method in ("varlen_feature", "id_feature"):
            assert rows(read(path, method, name)) == drop
            assert rows(read(path, method, name, default=9)) == default
            said = refused(path, method, name, null="error")
            assert f"column {name!r}, row {0 if name == 'lists' else 1} (the first is 0): must hold no null" in said
    deep = read(path, "varlen_feature", "deep", default=9)
    assert [level.tolist() for level in deep.offsets()] == [[0, 2, 3, 4, 6], [0, 2, 3, 4, 4, 5, 6]]
    assert deep.values().tolist() == [1, 9, 9, 9, 9, 2]
    assert "row 0 " in refused(path, "varlen_feature", "deep", null="error")
    assert rows(read(path, "id_feature", "text", default="a"))[1] == hash_strings(["a"]).tolist()
    assert bytes(read(path, "varlen_feature", "text", default="é").values().tolist()).decode() == "aéb"


def lists_of(depth):
    values = st.none() | st.integers(-5, 5)
    for _ in range(depth):
        values = st.none() | st.lists(values, max_size=3)
    return st.lists(values, max_size=5)


def by_python(value, depth):
    """As the docs say: a null value is 9, a null list a list of one null."""
    if depth == 0:
        return 9 if value is None else value
    return [by_python(each, depth - 1) for each in ([None] if value is None else value)]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 3).flatmap(lambda depth: st.tuples(st.just(depth), lists_of(depth))), st.integers(0, 4))
def test_defaults_as_python_fills_them(case, begin):
    depth, values = case
    kind = pa.int64()
    for _ in range(depth):
        kind = pa.list_(kind)
    array = pa.array(values, kind).slice(begin)
    assert filled(array, 9).to_pylist() == [by_python(value, depth) for value in values[begin:]]
    where = next((n for n, value in enumerate(values[begin:]) if has_null(value)), None)
    if where is None:
        assert NullRule(error=True).applied(array) is array
    else:
        with pytest.raises(RowError) as error:
            NullRule(error=True).applied(array)
        assert error.value.row == where


def has_null(value):
    return value is None or (isinstance(value, list) and any(map(has_null, value)))


def test_nulls_of_fixed_and_dense_features(tmp_path):
    path = write(tmp_path / "a.parquet", x=[1.5, None, float("nan"), 2.0], y=[1.0, 2.0, 3.0, 4.0])
    assert read(path, "dense_feature", "x").tolist() == [[1.5], [0], [0], [2]]
    assert read(path, "dense_feature", "x", default=-1).tolist() == [[1.5], [-1], [-1], [2]]
    for method, how in (("dense_feature", {}), ("fixedlen_feature", {"default_value": 0.0})):
        assert "row 1 (the first is 0): must hold no null" in refused(path, method, "x", null="error", **how)
        assert read(path, method, "y", null="error", **how).flatten().tolist() == [1, 2, 3, 4]


def test_rules_that_are_refused(tmp_path):
    path = write(tmp_path / "a.parquet", n=[1], s=["x"], w=[0.5])
    for method, name, how, said in (
        ("id_feature", "n", {"null": "keep"}, "null of 'n' must be 'drop' or 'error'; got 'keep'"),
        ("id_feature", "n", {"null": "error", "default": 1}, "give one of them"),
        ("id_feature", "n", {"default": 0.5}, "must be an integer of 64 bits; got 0.5"),
        ("id_feature", "n", {"default": 1, "weight": "w"}, "default of 'n' goes without weights"),
        ("varlen_feature", "n", {"default": 2**63}, "must be an integer of 64 bits"),
        ("varlen_feature", "n", {"default": "x"}, "must be numbers; got 'x'"),
        ("varlen_feature", "s", {"default": 1}, "is text, so its default must be str or bytes; got 1"),
        ("dense_feature", "w", {"default": "x"}, "must be numbers; got 'x'"),
    ):
        assert said in refused(path, method, name, **how), (method, how)


# Maps.


def test_maps_are_two_columns_with_the_same_offsets(tmp_path):
    maps = [[("a", 1.0), ("b", None)], None, [], [("é", 3.0)], [("a", 4.0)]]
    table = pa.table({"m": pa.array(maps, pa.map_(pa.string(), pa.float64())), "n": range(5)})
    pq.write_table(table, tmp_path / "m.parquet", row_group_size=2)
    pa.orc.write_table(table, str(tmp_path / "m.orc"))
    for end in ("parquet", "orc"):
        for shuffle in (False, True):
            dataset = dataset_of(f"{tmp_path}/m.{end}")(5, shuffle=shuffle)
            dataset.add_path(tmp_path / f"m.{end}")
            dataset.map_feature("m")
            dataset.id_feature("n")
            [batch] = dataset
            keys, values = rows(batch["m.keys"]), rows(batch["m.values"])
            for row, n in enumerate(batch["n"].values().tolist()):
                pairs = maps[n] or []
                assert keys[row] == hash_strings([key for key, _ in pairs]).tolist()
                assert values[row] == [value for _, value in pairs if value is not None]
    dataset = ParquetDataset(5)
    dataset.add_path(tmp_path / "m.parquet")
    assert list(dataset.columns) == ["m.keys", "m.values", "n"]
    with pytest.raises(ValueError, match=r"has no column 'm'; it has m\.keys, m\.values, n"):
        dataset.id_feature("m")
    dataset.map_feature("m", weighted=True)
    with pytest.raises(ValueError, match="weights in 'm.values' must be finite; got null"):
        list(dataset)


def test_maps_of_lists_and_of_integers(tmp_path):
    kind = pa.map_(pa.int32(), pa.list_(pa.int8()))
    write(tmp_path / "m.parquet", m=pa.array([[(1, [1, 2])], [(2, []), (3, [3])]], kind))
    dataset = opened(tmp_path / "m.parquet")
    dataset.map_feature("m")
    [batch] = dataset
    assert rows(batch["m.keys"]) == [[1], [2, 3]]
    assert [level.tolist() for level in batch["m.values"].offsets()] == [[0, 1, 3], [0, 2, 2, 3]]


# Unsigned.


def test_unsigned_ids_that_wrap_are_said_once(tmp_path, caplog):
    write(tmp_path / "a.parquet", a=pa.array([[1], [2, 2**63]], pa.list_(pa.uint64())), b=pa.array([1, 2], pa.uint64()))
    write(tmp_path / "b.parquet", a=pa.array([[2**64 - 1], []], pa.list_(pa.uint64())), b=pa.array([1, 2], pa.uint64()))
    with caplog.at_level(logging.WARNING, "recis_core.io"):
        for _ in range(2):
            dataset = opened(tmp_path, "a", "b")
            assert [v for batch in dataset for v in batch["a"].values().tolist()] == [1, 2, -(2**63), -1]
            read(tmp_path, "id_feature", "a", text=True)
    [record] = [r for r in caplog.records if str(tmp_path) in r.getMessage()]
    said = record.getMessage().removeprefix(f"{tmp_path}/")  # of the file that a thread reads first
    assert said.split(":")[0] in (
        "a.parquet, column 'a', row 1 (the first is 0)",
        "b.parquet, column 'a', row 0 (the first is 0)",
    )
    assert "uint64 values of 2**63 and more keep their bits as int64" in said


# Everything at once.

EVERY = {
    "runs": pc.run_end_encode(pa.array([1, 1, 2])),
    "views": pa.array([[1], [1], [2]], pa.list_view(pa.int16())),
    "large views": pa.array([[1], [1], [2]], pa.large_list_view(pa.int64())),
    "fixed": pa.array([[1], [1], [2]], pa.list_(pa.uint32(), 1)),
    "large": pa.array([[1], [1], [2]], pa.large_list(pa.int64())),
    "categories": pa.array([1, 1, 2]).dictionary_encode(),
    "categories of runs": pc.run_end_encode(pa.array(["1", "1", "2"])),
    "decimal256": pa.array([1, 1, 2]).cast(pa.decimal256(40, 0)),
    "halves": pa.array([1, 1, 2], pa.float16()),
    "bytes views": pa.array([b"1", b"1", b"2"], pa.binary_view()),
}  # fmt: skip


def test_every_arrow_type_by_stream_and_file(tmp_path):
    table = pa.table(EVERY)
    for name, new in (("f.arrow", pa.ipc.new_file), ("s.arrows", pa.ipc.new_stream)):
        with pa.OSFile(str(tmp_path / name), "wb") as file, new(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
        for column in EVERY:
            text = str(EVERY[column].type.value_type if column == "categories of runs" else EVERY[column].type)
            whole = {"whole": True} if column == "halves" else {}
            wanted = hash_strings(["1", "1", "2"]).tolist() if "string" in text or "binary" in text else [1, 1, 2]
            got = [v for row in rows(read(tmp_path / name, "id_feature", column, **whole)) for v in row]
            assert got == wanted, (name, column)
