"""The list of the slowest tests is renewed by a command, and names tests that are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests import slowest

ROOT = Path(__file__).parents[2]
LOG = """
........ [100%]
============================= slowest 30 durations =============================
12.50s call     tests/cli/test_train.py::test_it[a b]
3.00s setup    tests/io/test_batching.py::test_one
1.00s call     tests/cli/test_train.py::test_it[c]
2.25s teardown tests/cli/test_train.py::test_it[a b]
0.01s call     elsewhere/test_x.py::test
"""


def test_a_log_becomes_the_list() -> None:
    found = slowest.slowest(LOG.splitlines())
    assert found[0] == ("tests/cli/test_train.py::test_it[a b]", 14.75)
    assert [seconds for _, seconds in found] == [14.75, 3.0, 1.0]
    assert slowest.text(found).splitlines()[1:] == [
        "   15  tests/cli/test_train.py::test_it[a b]",
        "    3  tests/io/test_batching.py::test_one",
        "    1  tests/cli/test_train.py::test_it[c]",
    ]


def test_only_the_longest_are_kept() -> None:
    lines = [f"{n}.00s call tests/test_x.py::test[{n}]" for n in range(50)]
    found = slowest.slowest(lines)
    assert len(found) == slowest.MANY
    assert found[0] == ("tests/test_x.py::test[49]", 49.0)


def test_a_log_without_durations_is_refused(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(slowest, "FILE", tmp_path / "slowest.txt")
    (tmp_path / "log").write_text("3 passed in 0.1s\n")
    assert slowest.main([str(tmp_path / "log")]) == 1
    assert slowest.main([str(tmp_path / "absent")]) == 1
    assert not slowest.FILE.exists()
    said = capsys.readouterr().err.splitlines()
    assert "has no durations" in said[0]
    assert "absent" in said[1]


def test_the_committed_list_names_files_that_are_there() -> None:
    lines = [line for line in slowest.FILE.read_text().splitlines() if not line.startswith("#")]
    assert 0 < len(lines) <= slowest.MANY
    assert [line for line in lines if not (ROOT / line.split()[1].split("::")[0]).is_file()] == []
