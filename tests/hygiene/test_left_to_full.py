"""What a plain run leaves out is there, and says which test shows the same."""

from __future__ import annotations

from types import SimpleNamespace

from tests.hygiene.blocks import ROOT
from tests.left_to_full import gone, left_to_full, listed


def test_each_line_says_what_stands_for_it() -> None:
    assert [test for test, shown in listed().items() if not shown] == []
    assert [test for test in listed() if not (ROOT / test.split("::")[0]).is_file()] == []


def test_those_listed_are_found_and_a_lost_one_is_told() -> None:
    one, *others = [test for test in listed() if test.startswith("tests/cli/test_torchrun.py")]
    items = [SimpleNamespace(nodeid=one), SimpleNamespace(nodeid="tests/cli/test_torchrun.py::test_other")]
    assert left_to_full(items) == items[:1]
    assert gone(items) == others
