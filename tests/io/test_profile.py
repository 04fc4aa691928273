"""What files hold, counted in one pass, beside numpy and Python on all values at once."""

import collections
import math
import statistics
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recis_core.hashing import hash_texts
from recis_core.io.hyperloglog import ERROR, HyperLogLog, mixed
from recis_core.io.profile import profile_of
from recis_core.io.top_values import TopValues


def test_hyperloglog_is_within_its_error():
    """Of numbers in a row and of texts: 3.5 standard errors, and exact to one in a hundred for few."""
    for n in (0, 1, 2, 10, 100, 1000, 5000, 20_000, 60_000, 300_000):
        sketch = HyperLogLog()
        sketch.add(mixed(np.arange(n) * 3))
        sketch.add(mixed(np.arange(n)[: n // 2] * 3))  # values come twice
        assert abs(sketch.estimate() - n) <= max(0.01 * n if n <= 1000 else 0, 3.5 * ERROR * n), n
    errors = []
    for part in range(40):
        sketch = HyperLogLog()
        sketch.add(mixed(np.arange(30_000) + (part << 40)))
        errors.append(sketch.estimate() / 30_000 - 1)
    assert 0.6 * ERROR < statistics.pstdev(errors) < 1.3 * ERROR
    assert abs(statistics.mean(errors)) < 0.5 * ERROR
    sketch = HyperLogLog()
    sketch.add(np.asarray(hash_texts(pa.array(map(str, range(50_000))), "xxh3")).view(np.uint64))
    assert abs(sketch.estimate() / 50_000 - 1) < 3.5 * ERROR


def test_hyperloglogs_merge():
    halves, whole = [HyperLogLog(), HyperLogLog()], HyperLogLog()
    for n, half in enumerate(halves):
        half.add(mixed(np.arange(n * 4000, n * 4000 + 6000)))
    whole.add(mixed(np.arange(10_000)))
    halves[0].merge(halves[1])
    assert (halves[0].registers == whole.registers).all()


def test_hashes_of_numbers_are_one_to_one():
    edges = np.array([0, -1, 2**63 - 1, -(2**63)])
    assert len(np.unique(mixed(np.concatenate([edges, np.arange(1, 9999)])))) == 9999 - 1 + 4
    assert int(mixed(np.array([0]))[0]) == 0xE220A8397B1DCDAF  # SplitMix64's first number of seed 0


def test_frequent_values_are_missed_by_no_more_than_is_said():
    rng = np.random.default_rng(0)
    values, capacity = np.minimum(rng.zipf(1.2, 60_000), 10**9), 50
    exact, top = collections.Counter(values.tolist()), TopValues(capacity)
    for part in np.array_split(values, 30):
        top.add(pa.array(part))
    assert top.missed <= len(values) / capacity
    assert top.distinct is None
    found = dict(top.most(20))
    for value, count in exact.most_common(10):
        assert exact[value] - top.missed <= found[value] <= count
    small = TopValues()
    small.add(pa.array([3, 1, 3]))
    assert (small.most(9), small.distinct, small.held_by([1, 10])) == ([(3, 2), (1, 1)], 2, [2, 3])


def test_a_column_of_every_kind(tmp_path):
    table = pa.table(
        {
            "n": pa.array([3, None, -4, 2**62, 2**62, 7]),
            "u": pa.array([2**64 - 1, 0, 1, 2, 3, 4], pa.uint64()),
            "f": pa.array([1.5, float("nan"), None, float("inf"), -0.0, 0.0]),
            "b": pa.array([True, False, True, None, True, True]),
            "s": pa.array(["a", "b", "a", None, "é", ""]),
            "l": pa.array([[1, None], None, [], [2, 2, 2], [5], [6]]),
            "d": pa.array([[[1, 2], [3]], [], [[4]], None, [[]], [[5], [6], [7]]]),
            "day": pa.array([1, 2, 2, None, -1, 5], pa.date32()),
            "m": pa.array([[("k", 0.5)], [], None, [("k", 1.5), ("l", 2.5)], [], []], pa.map_(pa.string(), pa.float64())),
            "money": pa.array([Decimal(n).scaleb(-2) for n in (150, 150, 250, 0, 0, 7)], pa.decimal128(5, 2)),
            "c": pa.array(["x", "y", "x", "x", "x", None]).dictionary_encode(),
            "none": pa.nulls(6),
            "struct": pa.array([{"a": 1}] * 6),
        }
    )  # fmt: skip
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=2)
    found = profile_of(tmp_path / "x.parquet", None, 2).as_json()
    column = found["columns"]
    assert (found["rows"], found["rows_counted"], found["files"]) == (6, 6, {f"{tmp_path}/x.parquet": 6})
    assert list(column) == [
        "n",
        "u",
        "f",
        "b",
        "s",
        "l",
        "d",
        "day",
        "m.keys",
        "m.values",
        "money",
        "c",
        "none",
        "struct",
    ]
    nulls = dict(zip(column, (1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 6), strict=False))
    assert {name: column[name].get("null_rows") for name in nulls} == nulls
    distinct = {name: column[name].get("distinct") for name in column}
    wanted = {"n": 4, "u": 6, "f": 4, "b": 2, "s": 4, "l": 4, "d": 7, "day": 4, "m.keys": 2, "m.values": 3, "money": 4}
    wanted |= {"c": 2, "none": None, "struct": None}
    assert distinct == wanted
    assert (column["n"]["min"], column["n"]["max"], column["n"]["mean"]) == (-4, 2**62, (2 * 2**62 + 6) / 5)
    assert (column["u"]["max"], column["u"]["mean"]) == (2**64 - 1, (2**64 - 1 + 10) / 6)
    assert (column["f"]["min"], column["f"]["max"], column["f"]["mean"], column["f"]["not_finite"]) == (0, 1.5, 0.5, 2)
    assert column["b"]["mean"] == 0.8
    assert (column["day"]["min"], column["day"]["max"]) == ("1969-12-31", "1970-01-06")
    assert column["s"]["top"][0] == {"value": "a", "share": 2 / 5}
    assert column["c"]["share_of_top"] == {"1": 4 / 5, "10": 1, "100": 1, "1000": 1}
    assert column["l"]["lengths"] == {"min": 0, "median": 1, "p99": 3, "max": 3, "mean": 7 / 6}
    assert (column["l"]["nulls_in_lists"], column["l"]["empty_rate"], column["d"]["empty_rate"]) == (1, 2 / 6, 3 / 6)
    assert column["d"]["lengths"] == {"min": 0, "median": 0, "p99": 3, "max": 3, "mean": 7 / 6}
    roles = {name: column[name]["read_as"] for name in column}
    assert {name for name in roles if roles[name] == "dense"} == {"f"}
    assert (roles["m.keys"], roles["m.values"], roles["d"], roles["struct"]) == ("ids", "weights", "", "")
    assert "is no kind of value that is read" in column["struct"]["note"]
    assert found["sample"][0]["m.keys"] == ["k"]
    assert math.isclose(column["money"]["mean"], (1.5 + 1.5 + 2.5 + 0.07) / 6)


def test_files_that_differ_and_rows_of_a_sample(tmp_path):
    pq.write_table(
        pa.table({"a": pa.array([1, 2], pa.int8()), "x": [1, 2], "y": [True, False]}), tmp_path / "0.parquet"
    )
    pq.write_table(pa.table({"a": [2**40, 2], "x": ["1", "2"], "z": [1, 2]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"a": [9, 2], "x": [5, 2], "y": [1, 5]}), tmp_path / "2.parquet")
    column = profile_of(tmp_path, None, 3).as_json()["columns"]
    assert (column["a"]["types"], column["a"]["distinct"], column["a"]["max"]) == (["int8", "int64"], 4, 2**40)
    assert f"int64 in {tmp_path}/0.parquet and string in {tmp_path}/1.parquet do not go together" in column["x"]["note"]
    assert (column["y"]["distinct"], column["y"]["mean"], column["y"]["note"]) == (
        3,
        7 / 4,
        f"missing in {tmp_path}/1.parquet",
    )
    assert column["z"]["note"] == f"missing in {tmp_path}/0.parquet and 1 more"
    few = profile_of(tmp_path, 3, 9).as_json()
    assert (few["rows"], few["rows_counted"], few["columns"]["a"]["rows"], len(few["sample"])) == (6, 3, 3, 3)


def test_pieces_and_order_change_nothing(tmp_path):
    rng = np.random.default_rng(0)
    table = pa.table({"n": rng.integers(0, 2000, 5000), "s": [f"{n}" for n in rng.integers(0, 300, 5000)]})
    found = []
    for size, rows in ((5000, table), (77, table.take(rng.permutation(5000)))):
        pq.write_table(rows, tmp_path / "x.parquet", row_group_size=size)
        found.append(profile_of(tmp_path / "x.parquet", None, 0).as_json()["columns"])
    assert found[0] == found[1]
    assert found[0]["n"]["distinct"] == len(np.unique(table["n"].to_numpy()))


def test_values_that_python_lacks(tmp_path):
    far = pa.array([2**53, 2**53, -(2**53)], pa.timestamp("ms"))
    odd = pa.array([1, 1, 3], pa.duration("ns"))
    with (
        pa.OSFile(str(tmp_path / "x.arrow"), "wb") as file,
        pa.ipc.new_file(file, pa.schema({"t": far.type, "d": odd.type})) as w,
    ):
        w.write_table(pa.table({"t": far, "d": odd}))
    found = profile_of(tmp_path / "x.arrow", None, 1).as_json()
    assert found["columns"]["t"]["top"][0] == {"value": "9007199254740992 of timestamp[ms]", "share": 2 / 3}
    assert found["columns"]["t"]["min"] == "-9007199254740992 of timestamp[ms]"
    assert found["columns"]["d"]["distinct"] == 2
    assert found["sample"][0]["t"] == "9007199254740992 of timestamp[ms]"
