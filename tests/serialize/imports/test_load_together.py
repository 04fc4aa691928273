"""Rows go into all tables or into none: after an error or an interrupt each has the rows, slots and marks that it had."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import recis_core.table.undo as undo
from recis_core.errors import StateMismatch
from recis_core.nn import CacheConfig, EmbeddingEngine, EmbeddingOption, HashTable
from recis_core.optim import SparseAdam
from recis_core.serialize import StoredTable, TableBlock, TableSource, arrays_source, load_rows, load_tables_from

D, N = 3, 40


def engine(kind: str, tmp_path: Path) -> EmbeddingEngine:
    """Two tables of one storage, with rows of which a load overwrites some; "empty" has none."""
    cache = CacheConfig(device_rows=8, host_rows=8, disk=str(tmp_path / "disk")) if kind == "tiers" else None
    option = EmbeddingOption(D, cache=cache, backend="torch", seed=3)
    made = EmbeddingEngine({"a": option, "b": option})
    optimizer = SparseAdam(made.sparse_parameters(), lr=0.1)
    for step in range(0 if kind == "empty" else 2):
        ids = torch.arange(step, 20, 2)[:, None]
        sum(out.sum() for out in made({"a": ids, "b": ids + 5}).values()).backward()
        optimizer.step()
    made.optimizer = optimizer  # it has the tables while it lives
    return made


def held(made: EmbeddingEngine) -> dict[str, list[list[Any]]]:
    """{table: lists of [id, row, slots, marks] by id}"""
    found = {}
    for name, table in made.sparse_parameters().items():
        rows = table.snapshot()
        columns = [rows.weights, *(rows.slots[slot] for slot in sorted(rows.slots))]
        columns += [mark[:, None] for mark in (rows.scores, rows.stamps) if mark is not None]
        values = [column.double().tolist() for column in columns]
        found[name] = sorted([int(i), *each] for i, *each in zip(rows.ids.tolist(), *values, strict=True))
    return found


def source(last: float = 0.0) -> TableSource:
    """Of both tables; `last` is in b's last row. Blocks are small, so that much is written before it is read."""
    tables = {}
    for name, more in (("a", 0.0), ("b", last)):
        rows = torch.arange(N * D).reshape(N, D).float()
        rows[-1, 0] += more
        slots = {"m": rows * 0 + 7, "v": rows * 0 + 8}
        tables |= arrays_source(name, torch.arange(N), rows, slots=slots, t=4).tables
    return TableSource("here", {name: InSmallBlocks(**vars(table)) for name, table in tables.items()})


class InSmallBlocks(StoredTable):
    def blocks(self, rows: int = 0, **how: Any) -> Iterator[TableBlock]:
        return super().blocks(7, **how)


@pytest.mark.parametrize("replacing", [False, True])
@pytest.mark.parametrize("kind", ["empty", "plain", "tiers"])
def test_an_error_in_the_last_table_leaves_all_as_they_were(tmp_path: Path, kind: str, replacing: bool) -> None:
    made = engine(kind, tmp_path)
    before, t = held(made), made.optimizer.state_dict()
    with pytest.raises(StateMismatch, match="row 39 of table 'b', id 39, holds NaN or inf"):
        load_tables_from(source(float("nan")), made, replace=replacing, optimizer=made.optimizer)
    assert held(made) == before
    assert made.optimizer.state_dict() == t
    load_tables_from(source(), made, replace=replacing, optimizer=made.optimizer)
    after = held(made)
    assert after != before
    assert [row[1] for row in after["a"] if row[0] == 2] == [[6.0, 7.0, 8.0]]
    assert made.optimizer.state_dict()["t"] == {"a": 4, "b": 4}


@pytest.mark.parametrize("small", [False, True], ids=["in memory", "in a file"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_load_of_one_table(
    tmp_path: Path, monkeypatch: Any, error: type[BaseException], small: bool
) -> None:
    if small:
        monkeypatch.setattr(undo, "HELD", 1)
    made = engine("plain", tmp_path)
    before = held(made)

    def blocks() -> Iterator[TableBlock]:
        for block in [*source().tables["a"].blocks(), *source().tables["a"].blocks()]:  # some ids twice
            yield replace(block, marks={"stamps": block.ids.int() + 50})
        raise error("stop")

    with pytest.raises(error, match="stop"):
        load_rows(made.table("a"), blocks())
    assert held(made) == before


def test_slots_that_wait_for_an_optimizer_wait_again() -> None:
    """Of the rows that were there; a table without an optimizer."""
    table = HashTable([D], name="a", backend="torch")
    load_tables_from(source(), {"a": table}, load=["a"])
    with pytest.raises(StateMismatch, match="NaN"):
        load_tables_from(source(float("nan")), {"a": table}, load=["b"], rename={"b": "a"})
    optimizer = SparseAdam({"a": table})
    rows = table.snapshot()
    assert len(rows.ids) == N
    assert (rows.slots["m"] == 7).all()
    assert (rows.slots["v"] == 8).all()
    del optimizer


def test_that_a_difference_is_seen(tmp_path: Path) -> None:
    made = engine("plain", tmp_path)
    before = held(made)
    made.table("a").insert(torch.tensor([2]), torch.ones(1, D))
    assert held(made) != before
