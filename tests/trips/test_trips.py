"""A step goes from file to file no more often than it did; the page that says how often has a row for each case."""

from __future__ import annotations

import pytest

from recis_core.planning.quantity import parse_count
from tests.trips import __main__ as command
from tests.trips import table
from tests.trips.cases import CASES
from tests.trips.goals import GOALS, LIMITS
from tests.trips.recording import Call, Trip, recorded

COMPILED = ("jax", "pallas")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.full if n in COMPILED else ()) for n in CASES])
def test_entries_only_fall(name: str) -> None:
    step = CASES[name]()
    assert {phase: trip.entries for phase, trip in step.items() if trip.entries > LIMITS[name][phase]} == {}


def test_every_case_has_limits_and_no_goal_is_above_one() -> None:
    assert {name: tuple(limits) for name, limits in LIMITS.items()} == dict.fromkeys(CASES, table.PHASES)
    assert [(n, p) for n, goals in GOALS.items() for p, goal in goals.items() if goal > LIMITS[n][p]] == []


def test_the_page_has_a_row_for_each_case() -> None:
    assert table.committed().keys() == CASES.keys()


def test_an_entry_is_a_call_from_outside_the_file() -> None:
    with recorded() as trip:
        parse_count("40M")
    file = "recis_core/planning/quantity.py"
    assert trip[:2] == [Call(file, "parse_count", 0, True), Call(file, "_parse", 1, False)]
    assert (trip.files, trip.entries) == (1, 1)


def test_a_tree_names_the_file_where_it_is_entered() -> None:
    trip = Trip([Call("a.py", "f", 0, True), Call("a.py", "g", 1, False), Call("b.py", "h", 2, True)])
    assert list(trip.tree()) == ["a.py: f", "  g", "    b.py: h"]


def test_a_case_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["torch"])
    assert "no case 'torch'; there are numba; " in capsys.readouterr().err
