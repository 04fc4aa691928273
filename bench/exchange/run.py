"""python -m bench exchange: bytes, AUC and step time of each codec of the exchange, 2 ranks on gloo.

Bytes are counted from the buffers passed, off-rank only, and compared with fp32 rows and int64 ids without dedup, and
deduped. AUC is that of DeepFM on the preset `small`, beside a control that learns no rows and must fail. Times are
medians over turns that all codecs, fp32 and plain torch take in one run, after their rows were checked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from recis_core.bench import rows as result_rows
from recis_core.bench.exchange import goals, report
from recis_core.bench.exchange.codecs import CODECS
from recis_core.bench.exchange.quality import CONTROL
from recis_core.bench.exchange.rank import Plan
from recis_core.bench.exchange.workloads import WORKLOADS, missing
from recis_core.bench.provenance import provenance

COLUMNS = ("workload", "codec", "forward_bytes", "backward_bytes", "forward_ratio", "backward_ratio", "ratio")
TIMES = ("step_ms", "speedup_over_fp32", "speedup_over_peer")


@dataclass(frozen=True, kw_only=True)
class ExchangeConfig:
    """Bytes, AUC and step time of the exchange's codecs."""

    codecs: tuple[str, ...] = CODECS
    """As in EmbeddingOption's precision; fp32 is always among them."""
    workloads: tuple[str, ...] = WORKLOADS
    seeds: tuple[int, ...] = (0, 1, 2)
    ranks: Annotated[int, Field(ge=2)] = 2
    rows: Annotated[int, Field(ge=1)] = 4096
    """Of a rank's batch, for bytes and times."""
    dim: Annotated[int, Field(ge=1)] = 64
    steps: Annotated[int, Field(ge=1)] = 4
    """Training steps whose bytes are counted, of each seed."""
    repeats: Annotated[int, Field(ge=0)] = 15
    """Timed turns; 0 leaves times out."""
    train_rows: Annotated[int, Field(ge=0)] = 1_200_000
    """Of `small`, for the AUC: fewer, and fp32 is not within .01 of Bayes. 0 leaves the AUC out."""
    test_rows: Annotated[int, Field(ge=8192)] = 131_072
    train_batch: Annotated[int, Field(ge=1)] = 2048
    """Rows of all ranks together."""
    json: bool = False
    """One JSON object a row on stdout, in place of the tables."""
    out: str | None = None
    """Append result rows to this JSON Lines file."""
    plot: str | None = None
    """Draw AUC against bytes of the first workload into this file; needs matplotlib (pip install '.[bench]')."""

    def __post_init__(self) -> None:
        wrong = [name for name in self.workloads if name not in WORKLOADS]
        if wrong:
            raise ValueError(f"workloads must be among {', '.join(WORKLOADS)}; got {', '.join(wrong)}.")
        if "fp32" not in self.codecs:
            object.__setattr__(self, "codecs", ("fp32", *self.codecs))


def run(argv: list[str]) -> int:
    config = tyro.cli(ExchangeConfig, args=argv, prog="python -m bench exchange")
    here = [name for name in config.workloads if missing(name) is None]
    said = {"bench": "exchange", "ranks": config.ranks, "rows": config.rows, "dim": config.dim, "steps": config.steps}
    said |= {"seeds": list(config.seeds), "train_rows": config.train_rows, **provenance(config.seeds[0])}
    found = report.rows(facts(config, here), here, config.codecs)
    found += [
        report.blank(name, None) | {"skipped": missing(name)} for name in config.workloads if missing(name) is not None
    ]
    found = [{**row, **said} for row in found]
    result_rows.write(found, config.out)
    if config.plot is not None:
        _plot(found, config.plot)
    _tell(config, found)
    for row in found:
        if row["codec"] == CONTROL:
            goals.check_quality(row)
    return 0


def facts(config: ExchangeConfig, workloads: list[str]) -> list[dict[str, Any]]:
    """What the ranks find, under torchrun; their progress goes to stderr."""
    plan = Plan(
        codecs=list(config.codecs), workloads=workloads, seeds=list(config.seeds), rows=config.rows, dim=config.dim,
        steps=config.steps, repeats=config.repeats, train_rows=config.train_rows, test_rows=config.test_rows,
        train_batch=config.train_batch,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        plan_file, out = Path(folder) / "plan.json", Path(folder) / "facts.jsonl"
        plan.write(plan_file)
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={config.ranks}"]
        settings = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", **os.environ}
        subprocess.run(
            [*torchrun, "-m", "recis_core.bench.exchange.rank", str(plan_file), str(out)],
            env=settings, stdout=sys.stderr, check=True,
        )  # fmt: skip
        return [json.loads(line) for line in out.read_text().splitlines()]


def _plot(found: list[dict[str, Any]], path: str) -> None:
    from recis_core.bench.exchange.plot import draw

    first = [row for row in found if row["auc"] is not None and row["ratio"] is not None]
    draw([row for row in first if row["workload"] == first[0]["workload"]], path)


def _tell(config: ExchangeConfig, found: list[dict[str, Any]]) -> None:
    if config.json:
        for row in found:
            print(json.dumps(row))
        return
    bytes_ = [row | {"deduped": row["deduped_ratio"]} for row in found]
    result_rows.show(bytes_, (*COLUMNS, "deduped"), "bytes a step over all ranks; × fewer than fp32 + int64")
    result_rows.show(found, ("workload", "codec", *TIMES), "the sparse side's step: medians, and of ratios in turns")
    learned = {row["codec"]: _auc(row) for row in found if row["auc"] is not None}
    result_rows.show(list(learned.values()), ("codec", "auc", "auc_fp32", "worst_off"), "AUC on `small`")
    for line in goals.lines(found):
        print(line)
    for row in found:
        if "skipped" in row:
            print(f"{row['workload']}: skipped: {row['skipped']}")


def _auc(row: dict[str, Any]) -> dict[str, Any]:
    return {"codec": row["codec"], "worst_off": f"{goals.off(row):.5f}"} | {
        name: f"{row[name]:.5f}" for name in ("auc", "auc_fp32")
    }
