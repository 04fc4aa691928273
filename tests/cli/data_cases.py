"""Data sets of two files, by number: columns of random kinds, names and nulls, written by pandas, polars or pyarrow, and faults
in them. Each case says whether it trains, or what its refusal names.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet

ROWS = 14  # of a file
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
NAMES = [
    "user",
    "item id",
    "label",
    "dense",
    "p",
    "a.b",
    "x/y",
    "näme",
    "q:linear",
    "100%",
    "weights",
    "Click",
    "u'v",
    "select",
]


def _integers(kind: pa.DataType) -> Callable[[np.random.Generator], Any]:
    low = 0 if pa.types.is_unsigned_integer(kind) else -(1 << (kind.bit_width - 1))
    high = low + (1 << kind.bit_width) - 1
    return lambda rng: int(rng.integers(low, high, dtype=np.uint64 if low == 0 else np.int64, endpoint=True))


def _moment(rng: np.random.Generator) -> datetime.datetime:
    seconds, micros = int(rng.integers(-(10**8), 2 * 10**9)), int(rng.integers(1, 10**6))
    return (EPOCH + datetime.timedelta(seconds=seconds, microseconds=micros)).replace(tzinfo=None)


@dataclass(frozen=True)
class Kind:
    """draw: a value. where: the formats that hold it as it is."""

    type: pa.DataType
    draw: Callable[[np.random.Generator], Any]
    where: tuple[str, ...] = ("parquet", "orc", "feather", "csv")


ARROW = ("parquet", "feather")
WORDS = ["ab", "é", "x y", "a,b", 'q"q', "Ω1", "longer text of some length", "T"]
KINDS = {
    **{str(kind): Kind(kind, _integers(kind)) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())},
    **{str(kind): Kind(kind, _integers(kind), ARROW) for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())},
    "bool": Kind(pa.bool_(), lambda rng: bool(rng.integers(2)), ("parquet", "orc", "feather")),
    "string": Kind(pa.string(), lambda rng: WORDS[rng.integers(len(WORDS))]),
    "large_string": Kind(pa.large_string(), lambda rng: WORDS[rng.integers(len(WORDS))], ARROW),
    "binary": Kind(pa.binary(), lambda rng: WORDS[rng.integers(len(WORDS))].encode(), ARROW),
    "category": Kind(pa.dictionary(pa.int32(), pa.string()), lambda rng: WORDS[rng.integers(len(WORDS))], ARROW),
    "date": Kind(pa.date32(), lambda rng: _moment(rng).date()),
    "timestamp": Kind(pa.timestamp("us"), _moment, ("parquet", "feather", "csv")),
    "time": Kind(pa.time64("us"), lambda rng: _moment(rng).time(), ARROW),
    "duration": Kind(pa.duration("us"), lambda rng: datetime.timedelta(microseconds=int(rng.integers(10**12))), ARROW),
    "decimal": Kind(pa.decimal128(12, 2), lambda rng: Decimal(int(rng.integers(-(10**6), 10**6))).scaleb(-2), ("parquet", "orc")),
}  # fmt: skip
LABELS = [pa.int8(), pa.int32(), pa.int64(), pa.bool_(), pa.float32(), pa.float64()]


@dataclass
class Column:
    name: str
    role: str  # label, id, dense, weight
    values: list[list[Any]]  # by file
    type: pa.DataType
    lists: bool = False
    whole: bool = False  # integers with nulls, which pandas writes as floats

    def array(self, file: int) -> pa.Array:
        return pa.array(self.values[file], self.type)


@dataclass
class Case:
    """flags: of recis train. needles: what a refusal must name; None where the case trains."""

    number: int
    fault: str
    writer: str
    form: str
    columns: list[Column]
    rng: np.random.Generator
    flags: list[str] = field(default_factory=list)
    needles: list[str] | None = None
    label: str = "click"
    damage: Callable[[list[Path]], None] = lambda paths: None
    table_faults: list[Callable[[int, pa.Table], pa.Table]] = field(default_factory=list)

    def of_role(self, role: str) -> list[Column]:
        return [column for column in self.columns if column.role == role]

    def write(self, folder: Path) -> list[Path]:
        end = {"parquet": ".parquet", "orc": ".orc", "feather": ".arrow", "csv": ".csv"}[self.form]
        paths = [folder / f"{name}{end}" for name in "ab"]
        for file, path in enumerate(paths):
            table = pa.table({column.name: column.array(file) for column in self.columns})
            for change in self.table_faults:
                table = change(file, table)
            WRITERS[self.writer](table, path, self.form)
        self.damage(paths)
        return paths


def _by_pyarrow(table: pa.Table, path: Path, form: str) -> None:
    if form == "parquet":
        pyarrow.parquet.write_table(table, path, row_group_size=5)
    elif form == "orc":
        pyarrow.orc.write_table(table, path)
    elif form == "feather":
        pyarrow.feather.write_feather(table, str(path), compression="uncompressed", chunksize=6)
    else:
        pyarrow.csv.write_csv(table, path)


def _by_pandas(table: pa.Table, path: Path, form: str) -> None:
    frame = pd.DataFrame({name: _series(table[name]) for name in table.column_names})
    if form == "csv":
        frame.to_csv(path, index=False)
    else:
        {"parquet": frame.to_parquet, "orc": frame.to_orc, "feather": frame.to_feather}[form](path)


def _series(column: pa.ChunkedArray) -> Any:
    """As pandas users have it: a list in a cell is a Python list."""
    if pa.types.is_nested(column.type) or pa.types.is_null(column.type):
        return pd.Series(column.to_pylist(), dtype=object)
    return column.to_pandas()


def _by_polars(table: pa.Table, path: Path, form: str) -> None:
    frame = pl.from_arrow(table)
    {"csv": frame.write_csv, "parquet": frame.write_parquet, "feather": frame.write_ipc}[form](path)


WRITERS = {"pyarrow": _by_pyarrow, "pandas": _by_pandas, "polars": _by_polars}
FORMS = {"pyarrow": ["parquet", "orc", "feather", "csv"], "pandas": ["parquet", "orc", "feather", "csv"],
         "polars": ["parquet", "feather", "csv"]}  # fmt: skip


def case(number: int) -> Case:
    """Schema number // 5 with one of its five faults."""
    schema, which = divmod(number, 5)
    rng = np.random.default_rng([20261130, schema])
    writer = list(WRITERS)[schema % 3]
    form = FORMS[writer][rng.integers(len(FORMS[writer]))] if rng.integers(3) else "parquet"
    columns = _columns(rng, writer, form)
    unwritten = {form, f"{writer} {form}"}
    faults = [name for name in FAULTS if not unwritten & set(NOT_IN.get(name, ()))]
    fault = ["none", *rng.permutation([name for name in faults if name != "none"])[:4]][which]
    made = Case(number, fault, writer, form, columns, rng)
    made.flags += _flags(made)
    FAULTS[fault](made)
    return made


def _columns(rng: np.random.Generator, writer: str, form: str) -> list[Column]:
    names = list(rng.permutation(NAMES))
    label = LABELS[rng.integers(len(LABELS))]
    bits = [[int(n % 2) for n in range(ROWS)] for _ in range(2)]
    columns = [
        Column("click", "label", [[bool(b) if label == pa.bool_() else b for b in file] for file in bits], label)
    ]
    kinds = [kind for kind in KINDS.values() if form in kind.where]
    for _ in range(rng.integers(1, 4)):
        columns.append(_ids(rng, str(names.pop()), kinds[rng.integers(len(kinds))], writer, form))
    for _ in range(rng.integers(0, 3)):
        columns.append(_dense(rng, str(names.pop())))
    if form != "csv" and rng.integers(2):
        columns += _weighted(rng, str(names.pop()))
    return [columns[n] for n in rng.permutation(len(columns))]


def _ids(rng: np.random.Generator, name: str, kind: Kind, writer: str, form: str) -> Column:
    lists, nulls = (
        form != "csv" and bool(rng.integers(3) == 0) and not pa.types.is_dictionary(kind.type),
        bool(rng.integers(2)),
    )
    if writer == "pandas" and kind.type in (pa.duration("us"), pa.uint64()):  # which it does not write in lists
        lists = False

    def value() -> Any:
        return None if nulls and rng.integers(4) == 0 else kind.draw(rng)

    def row() -> Any:
        if not lists:
            return value()
        return None if nulls and rng.integers(5) == 0 else [value() for _ in range(rng.integers(0, 4))]

    values = [[row() for _ in range(ROWS)] for _ in range(2)]
    for file in values:
        file[0] = [kind.draw(rng)] if lists else kind.draw(rng)  # never all null
    whole = pa.types.is_integer(kind.type) and nulls and writer == "pandas" and not lists
    if whole:  # as floats they hold no more
        values = [[None if v is None else v % 2**50 for v in file] for file in values]
        kind = Kind(pa.int64(), kind.draw)
    return Column(name, "id", values, pa.list_(kind.type) if lists else kind.type, lists, whole)


def _dense(rng: np.random.Generator, name: str) -> Column:
    kind = [pa.float32(), pa.float64()][rng.integers(2)]
    values = [
        [None if rng.integers(5) == 0 else float(np.float32(rng.normal())) for _ in range(ROWS)] for _ in range(2)
    ]
    for file in values:
        file[0] = 0.5
    return Column(name, "dense", values, kind)


def _weighted(rng: np.random.Generator, name: str) -> list[Column]:
    lengths = [[int(rng.integers(0, 4)) for _ in range(ROWS)] for _ in range(2)]
    for file in lengths:
        file[0] = 2
    ids = [[[int(i) for i in rng.integers(0, 99, n)] for n in file] for file in lengths]
    weights = [[[float(np.float32(w)) for w in rng.random(n)] for n in file] for file in lengths]
    return [
        Column(name, "id", ids, pa.list_(pa.int64()), lists=True),
        Column(f"{name}_weight", "weight", weights, pa.list_(pa.float32())),
    ]


def _flags(made: Case) -> list[str]:
    whole = [column.name for column in made.of_role("id") if column.whole]
    return ["--id-columns", *whole] if whole else []


def _place(made: Case) -> tuple[int, int]:
    return int(made.rng.integers(2)), int(made.rng.integers(1, ROWS))


def _wrong_label(made: Case) -> None:
    [label], (file, row) = made.of_role("label"), _place(made)
    label.type, label.values = pa.int64(), [[int(v) for v in values] for values in label.values]
    label.values[file][row] = 2
    made.needles = ["ab"[file] + ".", "'click'", f"row {row} "]


def _null_label(made: Case) -> None:
    [label], (file, row) = made.of_role("label"), _place(made)
    label.values[file][row] = None
    made.needles = ["ab"[file] + ".", "'click'", f"row {row} "]


def _text_label(made: Case) -> None:
    [label] = made.of_role("label")
    label.type, label.values = pa.string(), [["no" if not v else "yes" for v in values] for values in label.values]
    made.needles = ["a.", "'click'", "0 and 1"]


def _other_width(made: Case) -> None:
    made.table_faults.append(lambda file, table: table if file == 0 else _widened(made, table))


def _widened(made: Case, table: pa.Table) -> pa.Table:
    wider = {pa.int8(): pa.int16(), pa.int32(): pa.int64(), pa.float32(): pa.float64(), pa.string(): pa.large_string()}
    names = [column.name for column in made.columns]
    for n, column in enumerate(made.columns):
        if column.type in wider and not column.whole:
            table = table.set_column(n, column.name, table[column.name].cast(wider[column.type]))
    return table.select(names[::-1])


def _incompatible(made: Case) -> None:
    target = made.of_role("id")[0]
    leaf = str(target.type.value_type if target.lists or pa.types.is_dictionary(target.type) else target.type)
    scalars = list(range(ROWS)) if leaf.endswith(("string", "binary")) else [f"text {n}" for n in range(ROWS)]
    other = pa.array([[scalar] for scalar in scalars] if target.lists else scalars)

    def change(file: int, table: pa.Table) -> pa.Table:
        return table if file == 0 else table.set_column(table.column_names.index(target.name), target.name, other)

    made.table_faults.append(change)
    made.needles = ["a.", "b.", repr(target.name)]


def _missing(made: Case) -> None:
    target = made.of_role("id")[-1]
    file = int(made.rng.integers(2))
    made.table_faults.append(lambda f, table: table if f != file else table.drop_columns([target.name]))
    made.needles = ["ab"[file] + ".", repr(target.name)]


def _additional(made: Case) -> None:
    file = int(made.rng.integers(2))
    made.table_faults.append(lambda f, t: t if f != file else t.append_column("extra", pa.array([1] * ROWS)))
    made.needles = ["ab"[file] + ".", "'extra'"]


def _deep(made: Case) -> None:
    deep = pa.array([[[1], [2]]] * ROWS) if made.rng.integers(2) else pa.array([{"a": 1}] * ROWS)
    made.table_faults.append(lambda f, t: t.append_column("deep", deep))
    made.needles = ["a.", "'deep'", "--skip deep"]


def _weights(made: Case) -> None:
    if not made.of_role("weight"):
        made.columns += _weighted(made.rng, "bag")
    [weight], (file, row) = made.of_role("weight"), _place(made)
    weight.values[file][row] = [*weight.values[file][row], 0.5]
    made.needles = ["ab"[file] + ".", repr(weight.name.removesuffix("_weight")), f"row {row} "]


def _infinite(made: Case) -> None:
    if not made.of_role("dense"):
        made.columns.append(_dense(made.rng, "price"))
    dense, (file, row) = made.of_role("dense")[0], _place(made)
    dense.values[file][row] = float("inf") * (1 if made.rng.integers(2) else -1)
    made.needles = ["ab"[file] + ".", repr(dense.name), f"row {row} "]


def _cut_short(made: Case) -> None:
    def damage(paths: list[Path]) -> None:
        content = paths[1].read_bytes()
        paths[1].write_bytes(content[: len(content) // 2] if made.form != "csv" else content + b'"open,1\n')

    made.damage, made.needles = damage, ["b."]


def _empty_file(made: Case) -> None:
    made.damage, made.needles = lambda paths: paths[0].write_bytes(b""), ["a."]


def _no_rows(made: Case) -> None:
    made.table_faults.append(lambda file, table: table.slice(0, 0) if file == 1 else table)
    for column in made.columns:
        column.values[1] = []


def _no_such_label(made: Case) -> None:
    made.label, made.needles = "clicked", ["a.", "'clicked'", "click"]


def _skipped(made: Case) -> None:
    made.table_faults.append(lambda f, t: t.append_column("deep", pa.array([{"a": f}] * len(t))))
    made.flags += ["--skip", "deep"]


FAULTS: dict[str, Callable[[Case], None]] = {
    "none": lambda made: None,
    "label of 2": _wrong_label,
    "null label": _null_label,
    "label of text": _text_label,
    "other widths and order": _other_width,
    "types that do not go together": _incompatible,
    "a column missing in one file": _missing,
    "a column more in one file": _additional,
    "nested lists or structs": _deep,
    "weights of another length": _weights,
    "infinite input": _infinite,
    "cut short": _cut_short,
    "empty file": _empty_file,
    "a file without rows": _no_rows,
    "no such label": _no_such_label,
    "struct that is skipped": _skipped,
}
NOT_IN = {
    "nested lists or structs": ("csv",),
    "struct that is skipped": ("csv",),
    "weights of another length": ("csv",),
    "a file without rows": ("csv", "pandas orc"),
}
