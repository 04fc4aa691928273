"""A step's rows as a Markdown table; README's is made of rows that were measured."""

from recis_core.bench.table import chosen, markdown
from tests.hygiene.blocks import ROOT

ROWS = ROOT / "bench" / "results" / "cpu-step.jsonl"
FACTS = {
    "bench": "step", "ids": "zipf", "dim": 8, "optimizer": "adam", "n": 65536, "bags": 8192, "vocabulary": 10, "cores": 2,
    "cpu": "CPU", "torch": "2", "load": 0.44, "commit": "abc",
}  # fmt: skip


def row(name, ms, speedup, **changed):
    return FACTS | {"name": name, "step_ms": ms, "speedup": speedup} | changed


def test_a_line_for_each_case_and_a_column_for_each_competitor():
    rows = [
        row("torch EmbeddingBag+SparseAdam", 12.04, 1.0),
        row("recis numba", 99.0, 0.1),  # of an older run
        row("recis numba", 4.0, 3.01),
        row("torch EmbeddingBag+SGD", 3.0, 1.0, optimizer="sgd"),
        {"bench": "cache"},
        row("recis jax", 30.0, 0.1, optimizer="sgd"),
    ]
    assert markdown(rows).splitlines() == [
        "| ids, dim, optimizer | plain torch | numba | jax |",
        "|---|---|---|---|",
        "| zipf, 8, adam | 12.0 ms | 4.0 ms, 3.0× | – |",
        "| zipf, 8, sgd | 3.0 ms | – | 30.0 ms, 0.1× |",
        "",
        "65,536 ids in 8,192 bags over 10 rows; 2 cores of CPU, torch 2, load 0.4, commit abc.",
    ]


def test_readmes_table_is_of_rows_that_were_measured():
    assert markdown(chosen(ROWS, ("zipf",), (16, 64))) in (ROOT / "README.md").read_text()
