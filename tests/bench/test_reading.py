"""`python -m bench io`, small: every loader reads the same, and each row says how fast."""

from dataclasses import replace

import pytest

from recis_core.bench import reading
from recis_core.bench.reading_files import texts


def test_rows_of_a_small_run(tmp_path):
    config = reading.ReadingConfig(batch=20, turns=1, text_rows=80)
    work = texts(tmp_path, 80, 0)
    work = replace(work, columns=work.columns[:2])
    rows = reading.cases(work, config)
    names = [row["name"] for row in rows]
    assert names[0] == reading.SCANNER
    assert {reading.OURS, "plain, by record batches", "plain, row by row", "10 passes"} <= set(names)
    assert all(row["rows/s"] > 0 and row["rows"] == 80 for row in rows[:-1])
    assert (rows[-1]["files"], rows[-1]["threads_left"]) == (0, 0)


def test_a_loader_that_reads_otherwise_is_seen(tmp_path):
    work = texts(tmp_path, 80, 0)
    dataset = work.dataset(20).map(lambda batch: {name: column.rows(0, 1) for name, column in batch.items()})
    with pytest.raises(RuntimeError, match="column texts0 differs from the plain loader's"):
        reading.require_equal(work, dataset, 20)
