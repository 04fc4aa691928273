"""python -m bench cache: hit rates beside Belady's optimum, and step times beside the same table all in memory.

One row a trace, capacity and policy; then one a way to run the whole step; then the disk's rows. `--large` builds a table of
rows many times the memory it may take, instead.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from recis_core.bench import rows as result_rows
from recis_core.bench.cache.hits import POLICIES, Replay
from recis_core.bench.cache.large import Sizes, large
from recis_core.bench.cache.steps import Case, compare
from recis_core.bench.cache.traces import TRACES, Trace, trace
from recis_core.bench.disk import DiskConfig, stores
from recis_core.bench.exchange.workloads import missing
from recis_core.bench.provenance import provenance
from recis_core.cli.flags import flag, plain_errors
from recis_core.options.cache_config import CacheConfig
from recis_core.options.cache_policy import policy_of

HITS = (
    "trace",
    "batch_rows",
    "capacity",
    "policy",
    "bound",
    "hit_rate",
    "on_arrival",
    "belady",
    "peer",
    "step_ms",
    "in_memory_ms",
)
STEPS = (
    "trace",
    "dim",
    "capacity",
    "name",
    "loop_threads",
    "step_ms",
    "in_memory_ms",
    "ratio",
    "hits_on_arrival",
    "stalled_ms",
)
# Of a simulation apart from this code, on click-log-39 at 10 %, rows of a call on top: hits by occurrence.
PEER = {"lru": 0.812, "lfu": 0.860, "lookahead 4": 0.873, "lookahead 16": 0.888}
STEPPED = ("click-log", "zipf-drift")
Row = dict[str, Any]


@plain_errors
@dataclass(frozen=True, kw_only=True)
class CacheBench:
    """Hit rates, step times and sizes of tables in tiers."""

    traces: tuple[str, ...] = TRACES
    """click-log: its 26 categorical fields; click-log-39: its 13 numbers are ids, too; zipf-drift: Zipf(1.05), its ranks
    moving. The click log's are skipped where its data is not there."""
    capacities: tuple[float, ...] = (0.05, 0.10, 0.25)
    """Shares of the trace's distinct keys that the device holds."""
    policies: tuple[str, ...] = POLICIES
    """lru, lfu, lfu(DECAY), ttl, or "lookahead N", N batches known ahead."""
    rows: Annotated[int, Field(ge=1)] = 512
    """Of a batch of the click log; 512 is what the rates beside it, "peer", are of."""
    zipf_rows: tuple[Annotated[int, Field(ge=1)], ...] = (2048, 512)
    """Of a batch of zipf-drift; steps are timed with the first."""
    batches: Annotated[int, Field(ge=1)] = 60
    """Of zipf-drift."""
    dims: tuple[Annotated[int, Field(ge=1)], ...] = (16, 64)
    """Columns of an embedding; steps are timed with each, by policy with the first."""
    turns: Annotated[int, Field(ge=0)] = 5
    """Timed passes over the trace of each competitor; 0 leaves step times out."""
    disk_rows: Annotated[int, Field(ge=0)] = 1_000_000
    """Of the table that stores on disk are measured with; 0 leaves them out. More of it in python -m recis_core.bench.disk."""
    seed: int = 0
    """Of zipf-drift, and of the rows that --large and the disk's rows draw."""
    large: bool = False
    """The build of a large table alone: at 1e8 rows 90 to 260 s on two cores, 10 GB in --folder, and 2.3 GB of memory,
    with --mapped-gib 16 and pages of files 10."""
    large_rows: Annotated[float, Field(ge=1)] = 1e8
    """Of --large."""
    device_mib: Annotated[float, Field(gt=0)] = 4
    """Of --large's cache on the device."""
    host_mib: Annotated[float, Field(ge=0)] = 1
    """The same in host memory: both small, so that most touched rows lie on disk at any number of rows."""
    mapped_gib: Annotated[float | None, Field(ge=0)] = None
    """Of --large's files that stay mapped; default: CacheConfig's own."""
    folder: str | None = None
    """A directory where --large and the disk's rows put their files; default: a temporary one."""
    json: bool = False
    """One JSON object a row on stdout, in place of the tables."""
    out: str | None = None
    """Append result rows to this JSON Lines file."""

    def __post_init__(self) -> None:
        for name in ("traces", "capacities", "policies", "zipf_rows", "dims"):
            if not getattr(self, name):
                raise ValueError(f"{flag(name)} must name at least one.")
        for name in self.traces:
            if name not in TRACES:
                raise ValueError(f"--traces must be of {', '.join(TRACES)}; got {name!r}.")
        for capacity in self.capacities:
            if not 0 < capacity <= 1:
                raise ValueError(f"--capacities must be shares above 0 and up to 1; got {capacity}.")
        for policy in self.policies:
            _check_policy(policy)
        if self.folder is not None and not Path(self.folder).is_dir():
            raise ValueError(f"--folder must be a directory that is there; got {self.folder!r}.")


def _check_policy(said: str) -> None:
    """
    Raises:
      ValueError: it is none that can be replayed.
    """
    name, _, window = said.partition(" ")
    try:
        known = policy_of(_kind(said)).moves_rows
    except ValueError:
        known = False
    if not known or (window and not window.isdigit()) or ((name == "lookahead") != bool(window)):
        raise ValueError(f'--policies must be of lru, lfu, lfu(DECAY), ttl, "lookahead N"; got {said!r}.')


def run(argv: list[str]) -> int:
    config = tyro.cli(CacheBench, args=argv, prog="python -m bench cache")
    said = {"bench": "cache", **provenance(config.seed)}
    found = []
    for row in _large(config) if config.large else _all(config):
        found.append({**row, **said})
        result_rows.write(found[-1:], config.out)
        if config.json:
            print(json.dumps(found[-1]), flush=True)
    if not config.json:
        _tell(found)
    return 0


def _large(config: CacheBench) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(dir=config.folder) as folder:
        mapped = None if config.mapped_gib is None else int(config.mapped_gib * 2**30)
        sizes = Sizes(int(config.device_mib * 2**20), int(config.host_mib * 2**20), mapped)
        yield from large(int(config.large_rows), Path(folder), config.seed, sizes)


def _all(config: CacheBench) -> Iterator[Row]:
    for name in config.traces:
        if name.startswith("click-log") and missing("click-log") is not None:
            print(f"{name}: skipped: {missing('click-log')}", file=sys.stderr)
            continue
        sizes = config.zipf_rows if name == "zipf-drift" else (config.rows,)
        for rows in sizes:
            read = trace(name, rows, config.batches * sizes[0] // rows, config.seed)
            timed = config.turns > 0 and name in STEPPED and rows == sizes[0]
            yield from _hits(config, read, timed=timed)
            if timed:
                yield from _steps(config, read)
    yield from _disk(config)


def _hits(config: CacheBench, read: Trace, *, timed: bool) -> Iterator[Row]:
    replay = Replay(read.calls())
    facts = {"part": "hits", "trace": read.name, "batch_rows": read.rows, "distinct": replay.distinct}
    for capacity in config.capacities:
        K = max(1, int(capacity * replay.distinct))
        times = _times(config, read, capacity, K) if timed else {}
        for between in (False, True) if read.name == "click-log-39" else (False,):
            belady = replay.optimum(K, between=between) if between or replay.largest <= K else None
            for policy in config.policies:
                hits = replay.run(policy, K, between=between)
                row = {"capacity": capacity, "device_rows": K, "policy": policy, "belady": belady, **vars(hits)}
                row["bound"] = "between calls" if between else "always"
                row["peer"] = PEER.get(policy) if between and capacity == 0.10 else None
                yield {**facts, **row, **times.get(policy, {})}


def _times(config: CacheBench, read: Trace, capacity: float, rows: int) -> dict[str, Row]:
    """{policy: times} at the first dim."""
    cases = [_case(policy, CacheConfig(device_rows=rows, policy=_kind(policy))) for policy in config.policies]
    found = compare(read, config.dims[0], [Case("in memory", None), *cases], config.turns)
    wanted = ("step_ms", "step_min_ms", "in_memory_ms", "ratio", "depth", "loop_threads")
    return {row["name"]: {name: row[name] for name in wanted} | {"dim": config.dims[0]} for row in found[1:]}


def _kind(policy: str) -> str:
    return {"ttl": "ttl(1e9)"}.get(policy, policy.partition(" ")[0])


def _case(policy: str, cache: CacheConfig) -> Case:
    return Case(policy, cache, int(policy.partition(" ")[2] or 4), _beside())


def _beside() -> int:
    """Threads of training beside a Prefetcher's own."""
    return max(1, torch.get_num_threads() - 1)


def _steps(config: CacheBench, read: Trace) -> Iterator[Row]:
    """The device holds a tenth; the host all others, or a quarter and a disk the rest."""
    distinct = Replay(read.calls()).distinct
    K = distinct // 10
    for dim in config.dims:
        with tempfile.TemporaryDirectory(dir=config.folder) as folder:
            host = CacheConfig(device_rows=K, policy="lookahead")
            disk = CacheConfig(device_rows=K, host_rows=distinct // 4, disk=folder, policy="lookahead")
            cases = [Case("in memory", None), Case("host", host), Case("disk", disk)]
            cases += [Case(f"host, prefetch {depth}", host, depth, _beside()) for depth in (4, 8, 16)]
            cases += [Case("host, prefetch 8, all threads", host, 8)]
            cases += [Case(f"disk, prefetch {depth}", disk, depth, _beside()) for depth in (4, 16)]
            for row in compare(read, dim, cases, config.turns):
                facts = {"part": "steps", "trace": read.name, "batch_rows": read.rows, "capacity": 0.10}
                yield {**facts, "device_rows": K, "dim": dim, **row}


def _disk(config: CacheBench) -> Iterator[Row]:
    """{store, op, rows_per_s, warm, …} of every store that is installed."""
    if config.disk_rows == 0:
        return
    try:
        found = stores(DiskConfig(rows=config.disk_rows, directory=config.folder, seed=config.seed))
    except ModuleNotFoundError as error:
        print(f"disk: skipped: {error}", file=sys.stderr)
        return
    for row in found:
        yield {"part": "disk", **row}


def _tell(found: list[Row]) -> None:
    def part(name: str) -> list[Row]:
        return [row for row in found if row["part"] == name]

    if part("hits"):
        result_rows.show([_percent(row) for row in part("hits")], HITS, "% of occurrences that moved no row")
    if part("steps"):
        result_rows.show(part("steps"), STEPS, "the whole step, ms; ratio to in memory of passes in turns")
    for name in ("disk", "large"):
        if part(name):
            shown = [column for column in part(name)[0] if column not in provenance(0)]
            result_rows.show(part(name), shown, name)


def _percent(row: Row) -> Row:
    rates = ("hit_rate", "on_arrival", "belady", "peer")
    return row | {name: 100 * row[name] for name in rates if row[name] is not None}
