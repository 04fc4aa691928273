"""bench llm: competitors begin alike, the sparse side's time is inside of a step's, and rows say what turns gave."""

from __future__ import annotations

from typing import Any

import pytest

from recis_core.bench.llm.competitors import OURS, PLAIN, SPARSE, competitor
from recis_core.bench.llm.rank import Training
from recis_core.bench.llm.run import LlmConfig, check, measured
from recis_core.bench.llm.sparse_clock import PHASES
from recis_core.bench.llm.workload import batches

TINY = LlmConfig(
    items=100, dim=8, width=32, layers=1, vocabulary=20, rows=2, prompt=3, history=4, candidates=5, steps=2
)


def trained(name: str) -> dict[str, Any]:
    made = competitor(name, TINY.plan, 1)
    return Training(made, batches(made.model, TINY.plan, 0, 2)).turn(2)


@pytest.fixture(scope="module")
def turns() -> dict[tuple[str, int], list[dict[str, Any]]]:
    return {(name, 1): [trained(name)] for name in (OURS, PLAIN, SPARSE)}


def test_competitors_begin_alike(turns: Any) -> None:
    check(turns)
    second = {turn[0]["losses"][1] for turn in turns.values()}
    assert max(second) - min(second) < 1e-2


def test_a_competitor_that_begins_otherwise_is_told(turns: Any) -> None:
    other = {**turns[PLAIN, 1][0], "losses": [9.0]}
    with pytest.raises(RuntimeError, match=r"rank 0 of 'nn.Embedding' begins with a loss of 9.0.*nothing was timed"):
        check({**turns, (PLAIN, 1): [other]})


def test_the_sparse_side_is_a_part_of_a_step(turns: Any) -> None:
    ours = turns[OURS, 1][0]
    assert tuple(ours["phases"]) == PHASES
    assert all(seconds > 0 for seconds in ours["phases"].values())
    assert sum(ours["phases"].values()) < ours["seconds"]
    assert turns[PLAIN, 1][0]["phases"] == {}


def test_rows_of_turns() -> None:
    def turn(seconds: float, lookup: float | None = None) -> list[dict[str, Any]]:
        phases = {} if lookup is None else {"lookup": lookup}
        return [{"seconds": seconds, "phases": phases, "peak_mib": 9.0, "before_mib": 4.0}]

    found = {
        (OURS, 1): [turn(1.0, 0.5), turn(2.0, 0.5), turn(4.0, 0.4)],
        (PLAIN, 1): [turn(2.0), turn(2.0), turn(12.0)],
    }
    ours, plain = (measured(key, found, TINY) for key in found)
    assert ours["tokens_per_s"] == (3 + 2 + 4) * 2 * 2 / 2.0
    assert (ours["step_ms"], ours["sparse_percent"], ours["sparse_ms"]) == (1000.0, 25.0, {"lookup": 250.0})
    assert (plain["ours_over_it"], plain["grown_mib"], plain["sparse_percent"]) == (2.0, 5.0, None)
