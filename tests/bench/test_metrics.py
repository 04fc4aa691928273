"""python -m bench metrics: a row of each metric, ours and torchmetrics'; nothing is timed that is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recis_core.bench import metrics


def test_rows(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert (
        metrics.run(["--rows", "400", "--their-rows", "200", "--batch", "90", "--repeats", "1", "--out", str(out)]) == 0
    )
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["metric"] for row in found] == [*metrics.ours(), *metrics.peers()]
    assert all(row["mrows_per_s"] > 0 < row["bytes_a_row"] for row in found)


def test_a_value_that_is_off_is_seen() -> None:
    with pytest.raises(RuntimeError, match="recall@10 is 0.5, torchmetrics' 0.4: nothing was timed"):
        metrics.check("recall@10", 0.5, 0.4)
