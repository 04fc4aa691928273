"""The runner by parts of this file's own: one that fails, one that is stopped, and those that run all the same."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from recis_core.backends.records import LookupCall, Request, Snapshot
from tests.contract.on_device import moved
from tests.gpu import __main__ as command
from tests.gpu.parts import KERNELS, PARTS, TOTAL, Part
from tests.gpu.runner import ROOT, run

WRITES = "import sys; open(sys.argv[1], 'a').write('{}\\n'); print('said')"
FAILS = WRITES + "; raise SystemExit(3)"
STAYS = WRITES + "; import subprocess, time; subprocess.Popen(['sleep', '100']).wait()"


def part(name: str, code: str, budget: int = 60, **how: tuple[str, ...]) -> Part:
    return Part(name, ("-c", code, "ROWS"), budget, **how)


def test_a_part_that_fails_or_is_stopped_holds_up_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = time.monotonic()
    parts = [part("fails", FAILS), part("stays", STAYS, budget=2), part("lacks", WRITES, needs=("no_such_module",))]
    outcomes = run([*parts, part("passes", WRITES)], tmp_path / "out")
    assert time.monotonic() - start < 60
    assert [outcome.result for outcome in outcomes] == [
        "failed with status 3",
        "over its budget",
        "needs no_such_module, which is not here",
        "passed",
    ]
    assert [(tmp_path / "out" / f"{o.name}.jsonl").exists() for o in outcomes] == [True, True, False, True]
    lines = (tmp_path / "out" / "summary.jsonl").read_text().splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["fails", "stays", "lacks", "passes"]
    assert "    said" in capsys.readouterr().out


def test_a_line_is_written_when_its_part_ends(tmp_path: Path) -> None:
    look = f"raise SystemExit(len(open({str(tmp_path / 'summary.jsonl')!r}).readlines()) != 1)"
    assert [outcome.result for outcome in run([part("first", WRITES), part("looks", look)], tmp_path)] == ["passed"] * 2


@pytest.mark.parametrize(("code", "status"), [(WRITES, 0), (FAILS, 1)])
def test_the_exit_status_says_whether_all_passed(
    code: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "no_gpu", lambda: None)
    monkeypatch.setattr(command, "PARTS", (part("fake", code),))
    assert command.main(["--out", str(tmp_path)]) == status
    last = capsys.readouterr().out.splitlines()[-1]
    assert ("FAILED: fake" if status else "all 1 parts passed") in last


def test_without_a_gpu_nothing_runs_and_the_plan_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "no_gpu", lambda: "torch sees no GPU here.")
    assert command.main([]) == 2
    said = capsys.readouterr().out
    assert all(f"{p.budget} s  python {p.command[0]}" in said for p in PARTS)


def test_budgets_keep_within_the_total_and_files_are_there() -> None:
    assert sum(p.budget for p in PARTS) <= TOTAL
    named = [word for p in PARTS for word in p.command if word.startswith("tests/")]
    assert len(named) > len(KERNELS)
    assert [word for word in named if not (ROOT / word).exists()] == []
    assert PARTS[0].argv(Path("rows"))[0] == sys.executable


@pytest.mark.parametrize(
    "name", ["step", *(pytest.param(name, marks=pytest.mark.full) for name in ("kernels", "cache"))]
)
def test_benches_have_the_flags_that_they_are_given(name: str) -> None:
    [words] = [p.command for p in PARTS if p.name == f"bench-{name}"]
    done = subprocess.run([sys.executable, *words[:3], "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert [word for word in words if word.startswith("--") and word not in done.stdout] == []


def test_a_call_and_its_tensors_go_to_the_device_and_a_snapshot_does_not() -> None:
    ids, offsets = torch.arange(3), torch.tensor([0, 3])
    call = LookupCall(ids, (3,), (0,), (Request("sum", offsets),))
    there = moved((call, {"rows": [ids]}, object), "meta")
    assert {t.device.type for t in (there[0].ids, there[0].requests[0].offsets, there[1]["rows"][0])} == {"meta"}
    snapshot = Snapshot(ids, ids, ids)
    assert moved(snapshot, "meta") is snapshot
    assert there[2] is object
