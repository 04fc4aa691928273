"""python -m bench io: rows a second from files to tensors, beside pyarrow with torch.utils.data and pyarrow's scanner alone.

Sizes: n rows of a batch.
"""

from __future__ import annotations

import gc
import os
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from recis_core.bench import rows
from recis_core.bench.provenance import provenance
from recis_core.bench.reading_files import Workload, click_log, lists, texts
from recis_core.bench.reading_peers import by_batches, by_rows, scanner

COLUMNS = (
    "workload",
    "name",
    "rows/s",
    "of the scanner",
    "ours by it",
    "cpu_s",
    "of the scanner's CPU",
    "our CPU by its",
)
OURS, SCANNER = "recis", "pyarrow's scanner alone"
PASSES = 10
FEW = 5  # batches that are read row by row, for their time to be that of all


@dataclass(frozen=True, kw_only=True)
class ReadingConfig:
    """Files to tensors: ours, a plain loader, and pyarrow's scanner, in turns."""

    list_rows: Annotated[int, Field(ge=16)] = 200_000
    text_rows: Annotated[int, Field(ge=16)] = 80_000
    click_rows: Annotated[int, Field(ge=16)] = 100_000
    """Of a planted click log, where there is no real one."""
    batch: Annotated[int, Field(ge=1)] = 4096
    turns: Annotated[int, Field(ge=1)] = 5
    """Timed turns of each; row by row has one, of a few batches."""
    threads: Annotated[int, Field(ge=1)] = 2
    """Row groups or stripes that ours decodes at once."""
    only: tuple[str, ...] = ()
    """Workloads whose names begin so. Default: all."""
    seed: int = 0
    out: str | None = None
    """Append result rows to this JSON Lines file."""


def run(argv: list[str]) -> int:
    config = tyro.cli(ReadingConfig, args=argv, prog="python -m bench io")
    facts = {"bench": "io", "batch": config.batch, "read_threads": config.threads, **provenance(config.seed)}
    with tempfile.TemporaryDirectory() as folder:
        found = [{**facts, **row} for work in workloads(Path(folder), config) for row in cases(work, config)]
    rows.write(found, config.out)
    rows.show([row for row in found if "rows/s" in row], COLUMNS, f"files to tensors (load {facts['load']})")
    rows.show(
        [row for row in found if "rss_mb" in row],
        ("workload", "rss_mb", "grown_mb", "files", "threads_left"),
        f"{PASSES} passes of ours",
    )
    return 0


def workloads(folder: Path, config: ReadingConfig) -> list[Workload]:
    made: list[tuple[str, Callable[[], Workload]]] = [
        ("click log", lambda: click_log(folder, config.click_rows, config.seed)),
        ("26 lists of int64", lambda: lists(folder, config.list_rows, config.seed)),
        ("100 columns of text", lambda: texts(folder, config.text_rows, config.seed)),
    ]
    return [make() for name, make in made if not config.only or name.startswith(config.only)]


def cases(work: Workload, config: ReadingConfig) -> list[dict[str, Any]]:
    """Rows of name, rows/s and CPU seconds, medians over turns, those of the scanner in each turn beside; then one of 10 passes.

    On a machine that others use, CPU seconds say more than rows/s.
    """
    data = work.dataset(config.batch, read_threads_num=config.threads, prefetch=2)
    require_equal(work, data, config.batch)
    passes: dict[str, Callable[[], Iterable[Any]]] = {
        SCANNER: lambda: scanner(work, config.batch),
        OURS: lambda: data,
        "plain, by record batches": lambda: by_batches(work, config.batch, 0),
        "plain, by record batches, 2 workers": lambda: by_batches(work, config.batch, 2),
    }
    turns = [{name: _spent(make) for name, make in passes.items()} for _ in range(config.turns)]
    few = _spent(lambda: islice(by_rows(work, config.batch, 0), FEW))
    whole = max(1.0, data.rows / (FEW * config.batch))
    turns[0]["plain, row by row"] = Spent(few.wall * whole, few.cpu * whole)
    names = [*passes, "plain, row by row"]
    return [*(_row(work, name, data.rows, turns) for name in names), ten_passes(work, data)]


@dataclass(frozen=True)
class Spent:
    """Seconds of one pass. cpu: of all threads, and of the loader's processes."""

    wall: float
    cpu: float


def _spent(make: Callable[[], Iterable[Any]]) -> Spent:
    start, cpu = time.perf_counter(), _cpu()
    for _ in make():
        pass
    return Spent(time.perf_counter() - start, _cpu() - cpu)


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _row(work: Workload, name: str, count: int, turns: list[dict[str, Spent]]) -> dict[str, Any]:
    there = [turn for turn in turns if name in turn]
    return {
        "workload": work.name,
        "name": name,
        "rows": count,
        "rows/s": count / statistics.median(turn[name].wall for turn in there),
        "of the scanner": statistics.median(turn[SCANNER].wall / turn[name].wall for turn in there),
        "ours by it": statistics.median(turn[name].wall / turn[OURS].wall for turn in there),
        "cpu_s": statistics.median(turn[name].cpu for turn in there),
        "of the scanner's CPU": statistics.median(turn[name].cpu / turn[SCANNER].cpu for turn in there),
        "our CPU by its": statistics.median(turn[OURS].cpu / turn[name].cpu for turn in there),
    }


def require_equal(work: Workload, data: Iterable[Any], batch_size: int) -> None:
    """Before anything is timed: ours and a plain loader read the same values.

    Raises:
      RuntimeError: they do not.
    """
    mine, plain = dict.fromkeys(work.columns, 0), dict.fromkeys(work.columns, 0)
    for batch in data:
        for name in work.columns:
            mine[name] += int(batch[name].values().long().sum()) + len(batch[name])
    for batch in by_batches(work, batch_size, 0):
        for name in work.columns:
            found = batch[name] if work.text else batch[name][0]
            plain[name] += int(found.long().sum()) + (len(found) if work.text else len(batch[name][1]))
    wrong = [name for name in work.columns if (mine[name] - plain[name]) % (1 << (63 if work.text else 64))]
    if wrong:
        raise RuntimeError(f"{work.name}: column {wrong[0]} differs from the plain loader's.")


def ten_passes(work: Workload, data: Iterable[Any]) -> dict[str, Any]:
    """Resident memory after the second pass, and what it has grown by after the last; open files and threads beside."""
    before, at = _left(), []
    for _ in range(PASSES):
        for _ in data:
            pass
        gc.collect()
        at.append(_resident_mb())
    after = _left()
    return {
        "workload": work.name,
        "name": "10 passes",
        "rss_mb": at[1],
        "grown_mb": at[-1] - at[1],
        "files": after[0] - before[0],
        "threads_left": after[1] - before[1],
    }


def _left() -> tuple[int, int]:
    return len(os.listdir("/proc/self/fd")), threading.active_count()


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
