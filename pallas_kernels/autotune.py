"""python -m recis_core.pallas_kernels.autotune: time the configs of each tunable kernel on this GPU and keep the fastest.

A config is a candidate only if its result has the default's bits. findings.py has the folder of the results.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import jax
import numpy as np

from recis_core.pallas_kernels import findings
from recis_core.pallas_kernels.catalog import KERNELS
from recis_core.pallas_kernels.catalog.inputs import WAYS
from recis_core.pallas_kernels.kernel import Kernel, Sizes, Workload

# Each kernel's name and key in the findings. segment_sum uses gather_pool's config, dequantise quantise's,
# unpack_ids pack_ids'. Not tuned: row_dot and select_rows, whose sums over columns have an order that the config sets.
TUNABLE = {
    "gather_pool": "pool",
    "fused_update": "update",
    "probe": "probe",
    "bulk_insert": "lane",
    "dedup": "dedup",
    "quantise": "code",
    "pack_ids": "frame",
}
KEYS = {"probe": WAYS, "lane": WAYS, "dedup": 0, "frame": 0}
DIMS = (16, 32, 64, 128, 256)
SIZES = Sizes()
Timer = Callable[[Callable[[], Any]], float]


def neighbours(config: Any) -> Iterator[Any]:
    """Every combination of half, same and double of each number; the config itself first."""
    yield config
    names = [field.name for field in fields(config)]
    for factors in product((0.5, 1, 2), repeat=len(names)):
        numbers = {name: int(getattr(config, name) * f) for name, f in zip(names, factors, strict=True)}
        if set(factors) != {1} and min(numbers.values()) >= 1 and numbers["num_warps"] <= 16:
            yield replace(config, **numbers)


def seconds(call: Callable[[], Any], repeats: int = 10) -> float:
    """Median of single calls, without the first two."""
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def tune(kernel: Kernel, sizes: Sizes, timer: Timer = seconds, interpret: bool = False) -> tuple[Any, dict[Any, float]]:
    """(the fastest config, seconds of each that gives the default's bits).

    Raises:
      RuntimeError: the default config itself does not run.
    """
    work, default = kernel.workload(np.random.default_rng(0), sizes), kernel.configs(sizes.dim)
    expected, times = None, {}
    for config in neighbours(default):
        call = partial(_run(kernel, work, config, interpret), *work.arrays)
        try:
            got = jax.block_until_ready(call())
        except Exception as error:  # a config that does not compile is no candidate
            if config == default:
                raise RuntimeError(f"{kernel.name} does not run with its default {config}: {error}") from error
            continue
        expected = got if expected is None else expected
        if same_bits(got, expected):
            times[config] = timer(call)
    return min(times, key=times.__getitem__), times


def _run(kernel: Kernel, work: Workload, config: Any, interpret: bool) -> Callable[..., Any]:
    """Without donation, so that every candidate gets the same arguments."""
    return jax.jit(partial(kernel.call, **work.options, config=config, interpret=interpret))


def same_bits(got: Any, expected: Any) -> bool:
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True)
    return all(np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in pairs)


def main(argv: list[str] | None = None) -> int:
    """0; 2 without a GPU."""
    parser = argparse.ArgumentParser(
        prog="python -m recis_core.pallas_kernels.autotune", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(TUNABLE)}; default: all")
    options = parser.parse_args(argv)
    unknown = [name for name in options.names if name not in TUNABLE]
    if unknown:
        parser.error(f"NAME must be of {', '.join(TUNABLE)}; got {', '.join(unknown)}.")
    device = findings.device_kind()
    if device is None:
        print(f"Tuning needs a GPU that JAX can see; jax.devices() gives {jax.devices()}.", file=sys.stderr)
        return 2
    for name in options.names or TUNABLE:
        path = keep_best(KERNELS[name], device)
        print(f"{name}: kept in {path}")
    return 0


def keep_best(
    kernel: Kernel, device: str, timer: Timer = seconds, sizes: Sizes = SIZES, interpret: bool = False
) -> Path:
    """Tune at each dim that matters, and write down what was found."""
    name = TUNABLE[kernel.name]
    dims = (DIMS[-2],) if name in KEYS else DIMS
    found = {}
    for dim in dims:
        best, _ = tune(kernel, replace(sizes, dim=dim), timer, interpret)
        found[str(KEYS.get(name, dim))] = asdict(best)
    path = findings.findings_file(device)
    findings.write(path, device, {name: found})
    return path


if __name__ == "__main__":
    raise SystemExit(main())
