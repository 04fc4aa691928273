"""python -m bench planning: rows of each part, written where asked."""

import json

from recis_core.bench.planning import run


def test_rows(tmp_path):
    out = tmp_path / "rows.jsonl"
    arguments = ["--features", "3", "--batch", "4", "--vocabulary", "10", "--repeats", "2", "--backend", "torch"]
    assert run([*arguments, "--out", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["name"] for row in rows] == ["reading inputs", "planning", "forward", "forward, EmbeddingBag a feature"]
    assert all(row["ms"] >= row["least"] > 0 for row in rows)
    assert [row["name"] for row in rows if row.get("speedup")] == ["forward"]
