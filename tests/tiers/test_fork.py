"""Children made by fork: they are told whose rows on disk these are, and take nothing from their parent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_children_leave_their_parents_disk_alone(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.tiers.fork_worker", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert ended.stdout == "ok\n" * 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert list((tmp_path / "scratch").iterdir()) == []
