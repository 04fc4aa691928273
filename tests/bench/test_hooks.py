"""python -m bench hooks: a row a hook, beside a Trainer without."""

import json

import pytest

from recis_core.bench.hooks import run


@pytest.mark.full
def test_rows(tmp_path):
    out = tmp_path / "rows.jsonl"
    assert run(["--batch", "4", "--turns", "2", "--preset", "tiny", "--backend", "torch", "--out", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["name"] for row in rows][:2] == ["no hook", "LoggerHook"]
    assert {"NonFiniteHook", "ReportHook", "JsonLinesHook"} < {row["name"] for row in rows}
    assert all(row["ms"] >= row["least"] > 0 for row in rows)
    assert [row["name"] for row in rows if "added" not in row] == ["no hook"]
