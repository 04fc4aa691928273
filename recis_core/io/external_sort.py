"""Tables sorted by columns in bounded memory: runs that fit are sorted and written to disk, then merged.

Sizes: n rows of a table.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

RUNS = 32  # merged at once; of each one block is in memory
MOST = 1 << 30  # bytes of a run: Arrow's text has 32-bit offsets
LEAST = 64  # rows of a block
RUN, PLACE = "recis:run", "recis:place"  # columns: a row's run; its number, so that equal keys stay in order


@dataclass(frozen=True)
class ExternalSort:
    """by: columns, ascending, nulls last; rows with equal ones keep their order. scratch: a folder for runs. memory: bytes of
    tables held, about, if pieces of input are smaller."""

    by: Sequence[str]
    scratch: str
    memory: int

    def sorted(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """The rows of all tables, which have one schema, in order."""
        names = (os.path.join(self.scratch, f"run-{n}.arrow") for n in count())
        runs = [self._write(next(names), [self._in_order(run)]) for run in self._runs(tables)]
        while len(runs) > RUNS:
            runs = [*runs[RUNS:], self._write(next(names), self._merged(runs[:RUNS]))]
        for table in self._merged(runs):
            yield table.drop_columns([PLACE])

    def _runs(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """Tables of as many bytes as may be sorted at once: sorting needs a second copy."""
        held: list[pa.Table] = []
        at = 0
        for table in tables:
            held.append(table.append_column(PLACE, pa.array(range(at, at + len(table)), pa.int64())))
            at += len(table)
            if sum(each.nbytes for each in held) >= min(self.memory // 3, MOST):
                yield pa.concat_tables(held)
                held = []
        if held:
            yield pa.concat_tables(held)

    def _in_order(self, table: pa.Table) -> pa.Table:
        keys = [(name, "ascending") for name in (*self.by, PLACE)]
        return table.take(pc.sort_indices(table, sort_keys=keys))  # nulls last

    def _write(self, path: str, tables: Iterable[pa.Table]) -> str:
        block = None
        with pa.OSFile(path, "wb") as file:
            writer = None
            for table in tables:
                block = block or max(LEAST, len(table) * self.memory // (4 * RUNS * max(1, table.nbytes)))
                writer = writer or pa.ipc.new_file(file, table.schema)
                writer.write_table(table, max_chunksize=block)
            if writer is not None:
                writer.close()
        return path

    def _merged(self, runs: list[str]) -> Iterator[pa.Table]:
        """What lies before the last row in hand of every run is in order: no row that is still on disk precedes it."""
        sources = [self._blocks(run) for run in runs]
        held: pa.Table | None = None
        last: dict[int, int] = {}  # by run, of those with rows on disk, the place of the last row in hand
        few = list(
            range(len(runs))
        )  # runs with few rows in hand: refilled together, so that much is in order each time
        while True:
            for run in few:
                last.pop(run, None)
                if (block := next(sources[run], None)) is not None:
                    last[run] = block[PLACE][-1].as_py()
                    block = block.append_column(RUN, pa.repeat(pa.scalar(run, pa.int32()), len(block)))
                    held = block if held is None else pa.concat_tables([held, block])
            if held is None:
                return
            held = self._in_order(held)
            end = _safe(held, last)
            yield held.slice(0, end).drop_columns([RUN])
            left = np.bincount(held[RUN].to_numpy()[end:], minlength=len(runs))
            few = [run for run in last if left[run] <= left.mean() / 2]
            held = held.slice(end) if end < len(held) else None

    def _blocks(self, path: str) -> Iterator[pa.Table]:
        with pa.memory_map(path) as file, pa.ipc.open_file(file) as reader:
            for n in range(reader.num_record_batches):
                yield pa.Table.from_batches([reader.get_batch(n)])
        os.unlink(path)


def _safe(held: pa.Table, last: dict[int, int]) -> int:
    """Rows of `held`, in order, that come before all rows on disk."""
    if not last:
        return len(held)
    ends = np.isin(held[PLACE].to_numpy(), list(last.values()))
    return int(ends.argmax()) + 1


def check_sortable(schema: pa.Schema, by: Sequence[str], flag: str) -> None:
    """Raises ValueError where a column is missing, or its values have no order."""
    for name in by:
        if name not in schema.names:
            raise ValueError(f"{flag} names {name!r}, which is no column that is written: {', '.join(schema.names)}.")
        if not _has_order(schema.field(name).type):
            raise ValueError(
                f"{flag} {name}: a column of {schema.field(name).type} has no order. Name one of single values."
            )


def _has_order(kind: pa.DataType) -> bool:
    """Whether Arrow sorts and compares such values."""
    none = pa.table({"x": pa.array([], kind)})
    try:
        pc.sort_indices(none, sort_keys=[("x", "ascending")])
        pc.equal(none["x"], none["x"])
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError):
        return False
    return True


def group_starts(table: pa.Table, by: Sequence[str]) -> list[int]:
    """Rows n > 0 whose values differ from the row before; nulls are equal."""
    same = pa.array([True] * max(0, len(table) - 1), pa.bool_())
    for name in by:
        column = table[name].combine_chunks()
        before, after = column.slice(0, max(0, len(column) - 1)), column.slice(1)
        equal = pc.fill_null(pc.equal(before, after), False)
        same = pc.and_(same, pc.or_(equal, pc.and_(before.is_null(), after.is_null())))
    return [int(n) + 1 for n in pc.indices_nonzero(pc.invert(same)).to_pylist()]
