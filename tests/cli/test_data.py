"""recis train on files as people have them: kinds of columns, names, weights, several files, and errors that name the place."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recis_core.cli import main
from recis_core.cli.columns import field_name
from recis_core.cli.source import open_source
from recis_core.cli.train_config import TrainConfig
from recis_core.io import hash_strings

N = 40
BITS = [n % 2 for n in range(N)]
FAST = ["--backend", "torch", "--dim", "2", "--batch-size", "16", "--json"]


def train(capsys, data, *flags, label="click"):
    """(status, last JSON line or None, stderr)"""
    status = main(["train", "--data", str(data), "--label", label, *FAST, *flags])
    out = capsys.readouterr()
    return status, json.loads(out.out.splitlines()[-1]) if status == 0 else None, out.err


def refused(capsys, data, *flags, label="click"):
    status, _, err = train(capsys, data, *flags, label=label)
    assert status == 1
    assert "Traceback" not in err
    return err


def write(path, **columns):
    pq.write_table(pa.table({"click": BITS, "user": list(range(N))} | columns), path)
    return path


def source(path, label="click", **flags):
    return open_source(TrainConfig(data=str(path), label=label, **flags))


def first(path, **flags):
    return next(source(path, **flags).train_batches(8))


NUMBERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
LABELS = [*NUMBERS, pa.bool_(), pa.float16(), pa.float32(), pa.float64(), pa.decimal128(3, 1)]


@pytest.mark.parametrize("kind", LABELS, ids=str)
def test_labels_of_every_number_kind(tmp_path, kind):
    wide = pa.array(BITS) if not pa.types.is_decimal(kind) else pa.array([f"{bit}.0" for bit in BITS])
    flat = wide.cast(kind)
    for array in (flat, pa.ListArray.from_arrays(list(range(N + 1)), flat)):
        label = first(write(tmp_path / "x.parquet", click=array))["label"]
        assert (label.dtype.is_floating_point, label.tolist()) == (True, BITS[:8])


def test_an_integer_label_trains(capsys, tmp_path):
    assert train(capsys, write(tmp_path / "x.parquet"))[1]["rows"] == 4


def test_wrong_labels_are_named_by_file_column_and_row(capsys, tmp_path):
    write(tmp_path / "a.parquet")
    for wrong, shown in ((2, "2"), (None, "null or NaN"), (-1, "-1")):
        bad = write(tmp_path / "b.parquet", click=pa.array([*BITS[:7], wrong, *BITS[8:]], pa.int16()))
        err = refused(capsys, tmp_path)
        assert err == f"recis train: {bad}, column 'click', row 7 (the first is 0): must be 0 or 1; got {shown}.\n"
    write(tmp_path / "b.parquet", click=["no", "yes"] * (N // 2))
    assert "column 'click' of " in (err := refused(capsys, tmp_path))
    assert "to be labels of 0 and 1; got string" in err


KINDS = {
    "text": (["a", "é"], hash_strings(["a", "é"]).tolist()),
    "bools": ([True, False], [1, 0]),
    "dates": (pa.array([1, 2], pa.date32()), [1, 2]),
    "date64": (pa.array([86_400_000, 0], pa.date64()), [1, 0]),
    "seconds": (pa.array([1, -1], pa.timestamp("s")), [1_000_000, -1_000_000]),
    "nanoseconds": (pa.array([1_001, 2_000], pa.timestamp("ns", "UTC")), [1, 2]),
    "times": (pa.array([1, 2], pa.time32("s")), [1_000_000, 2_000_000]),
    "durations": (pa.array([1, 2], pa.duration("ms")), [1_000, 2_000]),
    "decimals": (pa.array(["1.50", "-7.00"]).cast(pa.decimal128(9, 2)), [hash_strings(["1.5"])[0].item(), -7]),
    "dictionaries": (pa.array(["a", "b"]).dictionary_encode(), hash_strings(["a", "b"]).tolist()),
    "views": (pa.array(["a", "b"]).cast(pa.string_view()), hash_strings(["a", "b"]).tolist()),
    "binary": (pa.array([b"ab", b"cd"], pa.binary(2)), hash_strings([b"ab", b"cd"]).tolist()),
    "uint64": (pa.array([2**64 - 1, 5], pa.uint64()), [-1, 5]),
    "int8": (pa.array([-1, 5], pa.int8()), [-1, 5]),
    "lists": ([["a", None, "b"], None], hash_strings(["a", "b"]).tolist()),
    "lists of dates": (pa.array([[1], [2, None]], pa.large_list(pa.date32())), [1, 2]),
    "lists of categories": (
        pa.array([["a"], ["b"]], pa.list_(pa.dictionary(pa.int8(), pa.string()))),
        hash_strings(["a", "b"]).tolist(),
    ),
    "fixed lists": (pa.array([[1, 2], [3, None]], pa.list_(pa.int32(), 2)), [1, 2, 3]),
    "nulls": (pa.nulls(2), []),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_columns_of_every_kind_are_ids(tmp_path, kind):
    values, ids = KINDS[kind]
    pq.write_table(pa.table({"click": [0, 1], "x": values}, schema=None), tmp_path / "x.parquet")
    ragged = first(tmp_path / "x.parquet", test_data=str(tmp_path / "x.parquet"))["x"]
    assert (ragged.values().tolist(), len(ragged)) == (ids, 2)


def test_text_and_int_of_two_files_with_string_columns(capsys, tmp_path):
    write(tmp_path / "a.parquet", x=list(range(N)))
    write(tmp_path / "b.parquet", x=[str(n) for n in range(N)])
    err = refused(capsys, tmp_path)
    assert f"column 'x' is int64 in {tmp_path}/a.parquet and string in {tmp_path}/b.parquet" in err
    assert "--string-columns" in err
    opened = source(tmp_path, string_columns=("x",))
    ids = [batch["x"].values() for batch in [*opened.train_batches(N), *opened.test_batches()]]
    assert ids[0][:N].tolist() == hash_strings([str(n) for n in range(N)]).tolist()
    assert train(capsys, tmp_path, "--string-columns", "x")[1]["final"]


def test_whole_floats_are_ids_where_they_are_said_to_be(capsys, tmp_path):
    pd.DataFrame({"click": BITS, "user": [None, *range(1, N)]}).to_parquet(tmp_path / "x.parquet")
    assert "at least one column must hold ids" in refused(capsys, tmp_path)
    ragged = first(tmp_path, id_columns=("user",))["user"]
    assert (ragged.values().tolist(), ragged.lengths().tolist()) == ([1, 2, 3, 4, 5, 6, 7], [0] + [1] * 7)
    pd.DataFrame({"click": BITS, "user": [1.0, 2.5, *range(2, N)]}).to_parquet(tmp_path / "x.parquet")
    err = refused(capsys, tmp_path, "--id-columns", "user")
    assert (
        "x.parquet, column 'user', row 1 (the first is 0): must be a whole number below 2**53 to be an id; got 2.5"
        in err
    )


def test_dense_columns(tmp_path):
    path = write(tmp_path / "x.parquet", age=list(range(N)), price=[None, float("nan"), *[1.0] * (N - 2)])
    opened = source(path, dense_columns=("age",))
    assert (opened.fields, opened.dense) == (["user"], 2)
    x = next(opened.train_batches(3))["dense"]
    assert x[:, 0].tolist() == pytest.approx(np.log1p([0, 1, 2]).tolist())
    assert x[:, 1].tolist() == pytest.approx([0, 0, np.log(2)])


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float32(), 3), pa.list_(pa.float64()), pa.large_list(pa.float16())], ids=str
)
def test_lists_of_floats_are_dense_inputs(capsys, tmp_path, kind):
    vectors = [None, *[[0.0, 1.0, 2.0]] * (N - 1)]
    opened = source(write(tmp_path / "x.parquet", v=pa.array(vectors, kind)))
    assert opened.dense == 3
    assert next(opened.train_batches(2))["dense"].tolist() == [[0, 0, 0], pytest.approx(np.log1p([0, 1, 2]).tolist())]
    write(tmp_path / "x.parquet", v=[*[[0.0, 1.0]] * 4, [1.0], *[[0.0, 1.0]] * (N - 5)])
    assert "column 'v', row 4 (the first is 0): must hold 2 values, or none; got 1." in refused(capsys, tmp_path)


def test_infinite_inputs_are_refused(capsys, tmp_path):
    write(tmp_path / "x.parquet", price=[0.0] * 3 + [float("-inf")] + [0.0] * (N - 4))
    assert "column 'price', row 3 (the first is 0): must be finite, or null; got -inf." in refused(capsys, tmp_path)


NAMES = [
    "label",
    "dense",
    "p",
    "user.id",
    "a/b",
    "a:linear",
    "a",
    "%6Cabel",
    "weights",
    "forward",
    "näme",
    " ",
    "x" * 90,
]


def test_any_name_of_a_column(capsys, tmp_path):
    write(tmp_path / "x.parquet", price=[0.5] * N, **{name: pa.array(range(N)) for name in NAMES})
    status, final, err = train(capsys, tmp_path, "--save", str(tmp_path / "saved"))
    assert status == 0, err
    assert final["bayes_auc"] is None
    assert final["table_rows"] == 2 * 36 * (len(NAMES) + 1)
    assert len({field_name(name) for name in NAMES}) == len(NAMES)
    for name in ("label", "dense", "p"):
        assert train(capsys, tmp_path, "--columns", "user", name)[0] == 0


def test_a_truth_column_is_used_where_it_is_named(capsys, tmp_path):
    write(tmp_path / "x.parquet", p=[0.25, 0.75] * (N // 2))
    assert train(capsys, tmp_path)[1]["bayes_auc"] is None
    assert train(capsys, tmp_path, "--truth", "p")[1]["bayes_auc"] == 1.0
    assert "has no column 'q' for --truth; it has click, user, p" in refused(capsys, tmp_path, "--truth", "q")
    write(tmp_path / "x.parquet", p=[1.5] * N)
    assert "column 'p', row 0 (the first is 0): must be a probability" in refused(capsys, tmp_path, "--truth", "p")


@pytest.mark.parametrize(
    ("ids", "weights", "row", "what"),
    [
        ([[1, 2], [3], [4]], [[0.5], [0.1, 0.2], [9.0]], 0, "must hold as many ids as 'u_weight' weights; got 2 and 1"),
        ([[1], [2], [4]], [[0.5], None, [9.0]], 1, "must hold as many ids as 'u_weight' weights; got 1 and 0"),
        ([[1], [2], [4]], [[0.5], [None], [9.0]], 1, "weights in 'u_weight' must be finite; got null"),
        ([[1], [2], [4]], [[0.5], [1.0], [float("inf")]], 2, "weights in 'u_weight' must be finite; got inf"),
        ([1, 2, 4], [0.5, 1.0, None], 2, "weights in 'u_weight' must be finite; got null"),
    ],
)
def test_weights_that_do_not_fit_their_ids(capsys, tmp_path, ids, weights, row, what):
    pq.write_table(pa.table({"click": [0, 1, 0], "u": ids, "u_weight": weights}), tmp_path / "w.parquet")
    err = refused(capsys, tmp_path, "--test-data", f"{tmp_path}/w.parquet")
    assert err == f"recis train: {tmp_path}/w.parquet, column 'u', row {row} (the first is 0): {what}.\n"


def test_weights_of_another_kind_of_list(capsys, tmp_path):
    write(tmp_path / "w.parquet", user=[[n] for n in range(N)], user_weight=[1.0] * N)
    assert "must hold one weight an id of 'user'; in " in refused(capsys, tmp_path)


def test_a_null_id_goes_with_its_weight(tmp_path):
    columns = {"click": [0, 1], "u": [[1, None, 3], None], "u_weight": [[0.5, None, 0.25], None]}
    pq.write_table(pa.table(columns), tmp_path / "w.parquet")
    ragged = first(tmp_path, test_data=str(tmp_path))["u"]
    assert (ragged.values().tolist(), ragged.weight().tolist()) == ([1, 3], [0.5, 0.25])


MIXED = [
    (pa.int32(), pa.int64()), (pa.uint8(), pa.int64()), (pa.bool_(), pa.int8()), (pa.float32(), pa.float64()),
    (pa.string(), pa.large_string()), (pa.string(), pa.dictionary(pa.int8(), pa.string())),
    (pa.list_(pa.int32()), pa.large_list(pa.int64())), (pa.list_(pa.int64(), 1), pa.list_(pa.int64())),
    (pa.timestamp("ns"), pa.timestamp("s")), (pa.decimal128(9, 2), pa.decimal128(12, 1)),
    (pa.decimal128(9, 0), pa.int16()), (pa.null(), pa.list_(pa.int64())), (pa.null(), pa.string()),
]  # fmt: skip


@pytest.mark.parametrize("pair", MIXED, ids=str)
def test_files_that_differ_are_one(capsys, tmp_path, pair):
    for name, kind in zip("ab", pair, strict=True):
        lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        values = pa.array([[b] for b in BITS] if lists else BITS)
        if pa.types.is_null(kind):
            column = pa.nulls(N)
        elif pa.types.is_dictionary(kind):
            column = values.cast(pa.string()).dictionary_encode()
        elif pa.types.is_decimal(kind):
            column = values.cast(pa.decimal128(19, 0)).cast(kind)
        else:
            column = values.cast(kind)
        table = pa.table({"click": BITS, "user": list(range(N)), "x": column})
        pq.write_table(
            table.select(["x", "user", "click"] if name == "b" else table.column_names), tmp_path / f"{name}.parquet"
        )
    status, final, err = train(capsys, tmp_path)
    assert status == 0, err


@pytest.mark.parametrize(
    "pair",
    [(pa.int64(), pa.string()), (pa.int64(), pa.float64()), (pa.int64(), pa.list_(pa.int64())),
     (pa.timestamp("us"), pa.timestamp("us", "UTC")), (pa.date32(), pa.int32())],
    ids=str,
)  # fmt: skip
def test_files_that_do_not_go_together(capsys, tmp_path, pair):
    for name, kind in zip("ab", pair, strict=True):
        write(tmp_path / f"{name}.parquet", x=pa.nulls(N, kind))
    err = refused(capsys, tmp_path)
    types = [str(kind).replace("item", "element") for kind in pair]
    assert f"column 'x' is {types[0]} in {tmp_path}/a.parquet and {types[1]} in {tmp_path}/b.parquet" in err


def test_test_files_must_go_with_training_files(capsys, tmp_path):
    write(tmp_path / "a.parquet", x=list(range(N)))
    write(tmp_path / "b.parquet", x=["t"] * N)
    err = refused(capsys, tmp_path / "a.parquet", "--test-data", str(tmp_path / "b.parquet"))
    assert "column 'x' is int64 in" in err
    write(tmp_path / "b.parquet")
    assert "has column 'x', which" in refused(
        capsys, tmp_path / "a.parquet", "--test-data", str(tmp_path / "b.parquet")
    )


def test_a_column_that_one_file_lacks_or_has_alone(capsys, tmp_path):
    write(tmp_path / "a.parquet")
    write(tmp_path / "b.parquet", more=[1] * N)
    err = refused(capsys, tmp_path)
    assert f"{tmp_path}/b.parquet has column 'more', which {tmp_path}/a.parquet lacks" in err
    assert train(capsys, tmp_path, "--columns", "user")[0] == 0
    assert train(capsys, tmp_path, "--skip", "more")[0] == 0
    assert "a.parquet has no column 'more'" in refused(capsys, tmp_path, "--columns", "user", "more")


@pytest.mark.parametrize(
    "kind",
    [pa.struct([("a", pa.int64())]), pa.list_(pa.list_(pa.int64())), pa.list_(pa.map_(pa.string(), pa.int64()))],
)
def test_kinds_that_are_not_read_are_named(capsys, tmp_path, kind):
    write(tmp_path / "x.parquet", deep=pa.nulls(N, kind))
    err = refused(capsys, tmp_path)
    assert "column 'deep' of " in err
    assert "--skip deep" in err
    assert train(capsys, tmp_path, "--skip", "deep")[0] == 0
    assert train(capsys, tmp_path, "--columns", "user")[0] == 0


def test_maps_are_weighted_ids(tmp_path):
    prices = pa.array([[("a", 0.5), ("b", 2.0)]] * N, pa.map_(pa.string(), pa.float64()))
    batch = first(write(tmp_path / "x.parquet", prices=prices))
    assert set(batch) == {"label", "user", field_name("prices.keys")}
    ragged = batch[field_name("prices.keys")]
    assert ragged.values()[:2].tolist() == hash_strings(["a", "b"]).tolist()
    assert ragged.weight()[:2].tolist() == [0.5, 2.0]


def test_flags_that_contradict_each_other(capsys, tmp_path):
    write(tmp_path / "x.parquet")
    for flags, message in (
        (["--skip", "user", "--columns", "user"], "--skip and --columns both name 'user'"),
        (["--dense-columns", "user", "--id-columns", "user"], "--id-columns and --dense-columns both name 'user'"),
        (["--columns", "user", "user"], "--columns names 'user' twice"),
    ):
        with pytest.raises(SystemExit):
            main(["train", "--data", str(tmp_path), "--label", "click", *flags])
        assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "has no column 'who' for --skip" in refused(capsys, tmp_path, "--skip", "who")
    for flags, message in (
        (["--skip", "click"], "--skip names 'click'"),
        (["--string-columns", "click"], "--string-columns names 'click', which --label or --truth reads"),
        (["--truth", "click"], "--label and --truth both name 'click'"),
    ):
        assert message in refused(capsys, tmp_path, *flags)


def test_an_index_of_pandas_is_left_out(capsys, tmp_path):
    frame = pd.DataFrame({"click": BITS, "user": range(N)}, index=[n * n for n in range(N)])
    frame.to_parquet(tmp_path / "x.parquet")
    frame.to_csv(tmp_path / "x.csv")
    for file, index in (("x.parquet", "__index_level_0__"), ("x.csv", "")):
        status, _, err = train(capsys, tmp_path / file)
        assert (status, f"column {index!r} is left out" in err) == (0, True)
        assert source(tmp_path / file).fields == ["user"]
        assert set(source(tmp_path / file, columns=("user", index)).fields) == {"user", field_name(index)}
