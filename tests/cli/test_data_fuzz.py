"""Random data sets through the command line and the readers: trained, or refused by file, column and row; nothing else.

Ids of what is read are compared with those of separate code. 200 schemas × 5 faults under RECIS_TEST_FULL=1.
"""

import datetime
import json
import os
from decimal import Decimal
from itertools import pairwise

import pytest
import xxhash

from recis_core.cli import main
from recis_core.io import dataset_of
from tests.cli.data_cases import EPOCH, FAULTS, ROWS, case

FULL = os.environ.get("RECIS_TEST_FULL") == "1"
PART, PARTS = 25, 40  # cases of a test, tests
FAST = ["--backend", "torch", "--dim", "2", "--batch-size", "8", "--json"]
SOME = range(0, 1000, 83)


def reference(value):
    """The id of a value, by Python alone."""
    if isinstance(value, bool | int):
        value = int(value)
        return value - 2**64 if value >= 2**63 else value
    if isinstance(value, Decimal):
        text = f"{value:f}".rstrip("0").rstrip(".") if "." in f"{value:f}" else f"{value:f}"
        return int(value) if value == int(value) else reference(text)
    if isinstance(value, str | bytes):
        digest = xxhash.xxh3_64_intdigest(value.encode() if isinstance(value, str) else value)
        return digest - 2**64 if digest >= 2**63 else digest
    microsecond = datetime.timedelta(microseconds=1)
    if isinstance(value, datetime.datetime):
        return (value.replace(tzinfo=datetime.UTC) - EPOCH) // microsecond
    if isinstance(value, datetime.date):
        return (value - EPOCH.date()).days
    if isinstance(value, datetime.time):
        return ((value.hour * 60 + value.minute) * 60 + value.second) * 10**6 + value.microsecond
    return value // microsecond


def rows_of(column):
    rows = [row for file in column.values for row in file]
    lists = [row if isinstance(row, list) else [row] for row in rows if True]
    return [[reference(v) for v in (row or []) if v is not None] for row in lists]


def command_line(made, folder, capsys):
    status = main(["train", "--data", str(folder), "--label", made.label, *FAST, *made.flags])
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    if made.needles is None:
        assert status == 0, err
        final = json.loads(out.splitlines()[-1])
        assert final["rows"] + 8 * final["steps"] >= sum(len(file) for file in made.columns[0].values)
        return
    assert status == 1, "it trained"
    assert [needle for needle in made.needles if needle not in err] == [], err


def reader(made, folder):
    dataset = dataset_of(str(folder))(8)
    weighted = {column.name.removesuffix("_weight") for column in made.of_role("weight")}
    dataset.add_path(folder)
    dataset.label_feature(made.label)
    for column in made.of_role("id"):
        weight = f"{column.name}_weight" if column.name in weighted else None
        dataset.id_feature(column.name, weight, whole=column.whole)
    for column in made.of_role("dense"):
        dataset.dense_feature(column.name)
    return list(dataset)


def read_as_written(made, batches):
    for column in made.of_role("id"):
        read = []
        for batch in batches:
            values, offsets = batch[column.name].values().tolist(), batch[column.name].offsets()[0].tolist()
            read += [values[begin:end] for begin, end in pairwise(offsets)]
        assert read == rows_of(column), column.name


def check(number, folder, capsys):
    made = case(number)
    made.write(folder)
    command_line(made, folder, capsys)
    if made.fault in ("a column more in one file", "nested lists or structs"):  # a reader reads what is named
        made.needles = None
    if made.needles is None:
        read_as_written(made, reader(made, folder))
        return
    with pytest.raises((ValueError, TypeError, OSError)) as refused:
        reader(made, folder)
    assert [needle for needle in made.needles if needle not in str(refused.value)] == [], refused.value


def check_all(numbers, tmp_path, capsys):
    failed = []
    for number in numbers:
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            check(number, folder, capsys)
        except BaseException as error:
            made = case(number)
            failed.append(f"{number} {made.writer} {made.form} {made.fault!r}: {type(error).__name__} {error}"[:600])
    assert not failed, "\n".join(failed)


def test_some(tmp_path, capsys):
    check_all(SOME, tmp_path, capsys)


@pytest.mark.full
@pytest.mark.skipif(not FULL, reason="RECIS_TEST_FULL=1 runs 200 schemas × 5 faults")
@pytest.mark.parametrize("part", range(PARTS))
def test_all(tmp_path, capsys, part):
    check_all(range(part * PART, (part + 1) * PART), tmp_path, capsys)


def test_every_fault_and_writer_comes():
    made = [case(number) for number in range(0, 200)]
    assert {each.fault for each in made} == set(FAULTS)
    assert {(each.writer, each.form) for each in map(case, range(0, 1000, 5))} >= {
        ("pandas", "csv"), ("pandas", "parquet"), ("polars", "parquet"), ("polars", "csv"), ("pyarrow", "orc"),
    }  # fmt: skip
    assert ROWS == 14
