"""python -m bench text_hashing: a column of text to 64-bit hashes, beside pandas, polars and xxhash in a loop.

Peers get what they take: pandas an array of Python strings, polars its own column, the loop a list of bytes; how these are
made from Arrow's column is not counted. The last row is a ceiling: a copy of the column's bytes and offsets.

Sizes: N texts.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tyro
import xxhash
from pydantic import Field
from pydantic.dataclasses import dataclass

from recis_core.bench import rows
from recis_core.bench.provenance import provenance
from recis_core.hashing import hash_texts

COLUMNS = ("texts", "name", "ms", "mrows_per_s", "gb_per_s")
CHECKED = 1000  # texts whose hashes are compared with xxhash's before anything is timed


@dataclass(frozen=True, kw_only=True)
class TextHashingConfig:
    """Text to hashes, rows and bytes a second."""

    texts: Annotated[int, Field(ge=1)] = 1_000_000
    repeats: Annotated[int, Field(ge=1)] = 7
    """Timed turns of each."""
    slow_repeats: Annotated[int, Field(ge=1)] = 2
    """Of what takes a Python object a text."""
    seed: int = 0
    out: str | None = None
    """Append result rows to this JSON Lines file."""


def run(argv: list[str]) -> int:
    config = tyro.cli(TextHashingConfig, args=argv, prog="python -m bench text_hashing")
    facts = {"bench": "text_hashing", "N": config.texts, **provenance(config.seed)}
    found = [{**facts, **row} for name, column in columns(config).items() for row in cases(config, name, column)]
    rows.write(found, config.out)
    rows.show(found, COLUMNS, f"{config.texts:,} texts to hashes (load {facts['load']})")
    return 0


def columns(config: TextHashingConfig) -> dict[str, pa.Array]:
    """Texts as ranking models have them: categories of a click log, ids, titles, addresses of pages."""
    rng = np.random.default_rng(config.seed)
    numbers = rng.integers(0, 2**32, config.texts)
    zipf = rng.zipf(1.2, config.texts) % 1_000_000
    return {
        "8 bytes": pa.array([f"{n:08x}" for n in numbers]),
        "Zipf, 13 bytes": pa.array([f"item_{n:08d}" for n in zipf]),
        "20 bytes": pa.array([f"user_{n:08x}_{n % 1000:06d}" for n in numbers]),
        "60 bytes": pa.array([f"{n:010d} a title of some words {n % 97:02d}, made anew and anew" for n in numbers]),
        "200 bytes": pa.array([f"https://example.org/{n:064x}/" + f"{n % 1000:06d}" * 19 + "?" for n in numbers]),
    }


def cases(config: TextHashingConfig, name: str, column: pa.Array) -> list[dict[str, Any]]:
    """Rows of name, ms (median over turns), least, millions of rows and gigabytes of text a second; turns alternate."""
    _check(column)
    size = int(column.nbytes - 4 * (len(column) + 1))
    calls = _calls(column)
    times: dict[str, list[float]] = {call: [] for call in calls}
    for turn in range(config.repeats):
        for call, (run_it, slow) in calls.items():
            if turn < (config.slow_repeats if slow else config.repeats):
                start = time.perf_counter()
                run_it()
                times[call].append(time.perf_counter() - start)
    return [_row(name, call, times[call], len(column), size) for call in calls]


def _check(column: pa.Array) -> None:
    some = column[:CHECKED]
    wanted = np.array([xxhash.xxh3_64_intdigest(text.encode()) for text in some.to_pylist()], np.uint64)
    if not np.array_equal(hash_texts(some).to_numpy().view(np.uint64), wanted):
        raise RuntimeError("hash_texts and xxhash differ: nothing was timed.")


def _calls(column: pa.Array) -> dict[str, tuple[Callable[[], object], bool]]:
    """{name: (call, whether it takes a Python object a text)}; compiled ones have run once."""
    import pandas as pd
    import polars as pl

    raw, series = column.cast(pa.binary()).to_pylist(), pl.Series(column)
    texts = column.to_numpy(zero_copy_only=False)
    calls: dict[str, tuple[Callable[[], object], bool]] = {
        f"hash_texts {kind}": (partial(hash_texts, column, kind), False) for kind in ("xxh3", "farm", "murmur")
    }
    calls["distinct ones only"] = (lambda: _by_distinct(column), False)
    calls["polars, Series.hash"] = (lambda: series.hash(), False)
    calls["pandas, hash_array"] = (lambda: pd.util.hash_array(texts, categorize=False), True)
    calls["xxhash in a loop"] = (lambda: [xxhash.xxh3_64_intdigest(text) for text in raw], True)
    buffers = [np.frombuffer(buffer, np.uint8) for buffer in column.buffers()[1:]]
    calls["copy of the column"] = (lambda: [buffer.copy() for buffer in buffers], False)
    for call, slow in calls.values():
        if not slow:
            call()
    return calls


def _by_distinct(column: pa.Array) -> pa.Array:
    encoded = column.dictionary_encode()
    return pc.take(hash_texts(encoded.dictionary), encoded.indices)


def _row(texts: str, name: str, times: list[float], count: int, size: int) -> dict[str, Any]:
    middle = statistics.median(times)
    speeds = {"mrows_per_s": count / middle / 1e6, "gb_per_s": size / middle / 1e9}
    return {"texts": texts, "name": name, "ms": 1e3 * middle, "least": 1e3 * min(times), **speeds}
