"""Parts one after another, each a process group of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.gpu.parts import Part

ROOT = Path(__file__).parents[2]
PASSED = "passed"


@dataclass(frozen=True)
class Outcome:
    name: str
    result: str
    seconds: float
    budget: int

    def __str__(self) -> str:
        return f"{self.name}: {self.result}, {self.seconds:.0f} s of {self.budget}"


def run(parts: Iterable[Part], out: Path) -> list[Outcome]:
    """What became of each; said, and written to summary.jsonl, as it ends."""
    out.mkdir(parents=True, exist_ok=True)
    outcomes = []
    for part in parts:
        outcomes.append(outcome := timed(part, out))
        print(outcome, flush=True)
        if outcome.result != PASSED:
            print(last_lines(out / f"{part.name}.log"), flush=True)
        with (out / "summary.jsonl").open("a") as file:
            file.write(json.dumps(asdict(outcome)) + "\n")
    return outcomes


def timed(part: Part, out: Path) -> Outcome:
    start = time.monotonic()
    result = f"needs {', '.join(missing)}, which is not here" if (missing := part.missing()) else result_of(part, out)
    return Outcome(part.name, result, round(time.monotonic() - start, 1), part.budget)


def result_of(part: Part, out: Path) -> str:
    """Stopped at its budget with all that it started."""
    with (out / f"{part.name}.log").open("w") as log:
        process = subprocess.Popen(
            part.argv(out.absolute() / f"{part.name}.jsonl"),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **dict(part.env)},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(part.budget)
        except subprocess.TimeoutExpired:
            return "over its budget"
        finally:
            stop(process)
    return PASSED if status == 0 else f"failed with status {status}"


def stop(process: subprocess.Popen[bytes]) -> None:
    """Its group, what is left of it."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def last_lines(log: Path, many: int = 15) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(f"    {line}" for line in lines[-many:])
