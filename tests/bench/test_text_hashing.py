"""python -m bench text_hashing: rows of each way and column, written where asked; nothing is timed that is wrong."""

import json

import pyarrow as pa
import pytest

from recis_core.bench import text_hashing


def test_rows(tmp_path):
    out = tmp_path / "rows.jsonl"
    assert text_hashing.run(["--texts", "50", "--repeats", "1", "--slow-repeats", "1", "--out", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 5 * 8
    assert {row["name"] for row in rows} > {
        "hash_texts xxh3",
        "pandas, hash_array",
        "xxhash in a loop",
        "copy of the column",
    }
    assert all(row["gb_per_s"] > 0 and row["mrows_per_s"] > 0 for row in rows)


def test_wrong_hashes_are_not_timed(monkeypatch):
    monkeypatch.setattr(text_hashing, "hash_texts", lambda column: pa.array([0] * len(column)))
    with pytest.raises(RuntimeError, match="differ: nothing was timed"):
        text_hashing._check(pa.array(["a"]))
