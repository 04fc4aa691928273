"""python -m bench kernels: each Pallas kernel against the machine's bandwidth, XLA's form of it, and torch's.

Results are compared before anything is timed. A measured copy stands in the same table as the ceiling. On a CPU
kernels would be interpreted, which says nothing of their speed: there only XLA's form and torch's are timed.

Sizes: N ids, R rows, D dim, B bags.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from recis_core.bench import rows
from recis_core.bench.provenance import provenance
from recis_core.pallas_kernels.catalog import KERNELS
from recis_core.pallas_kernels.kernel import Kernel, Sizes, Workload

COLUMNS = ("kernel", "name", "dim", "dtype", "ms", "gb_per_s", "of_copy", "items_per_s", "first_call_s")
BY_DIM = {"gather_pool", "segment_sum", "row_dot", "fused_update", "quantise", "dequantise", "select_rows"}


@dataclass(frozen=True, kw_only=True)
class KernelsConfig:
    """Kernels against the machine's bandwidth."""

    kernels: tuple[str, ...] = tuple(KERNELS)
    dims: tuple[int, ...] = (16, 64, 128)
    dtypes: tuple[str, ...] = ("float32",)
    """Of tables, for kernels that take others."""
    ids: Annotated[int, Field(ge=1)] | None = None
    """Default 1,048,576 on a GPU, 65,536 on a CPU."""
    rows: Annotated[int, Field(ge=1)] | None = None
    """Default 2,097,152 on a GPU, 131,072 on a CPU."""
    repeats: Annotated[int, Field(ge=1)] = 20
    seed: int = 0
    out: str | None = None
    """Append result rows to this JSON Lines file."""


def run(argv: list[str]) -> int:
    config = tyro.cli(KernelsConfig, args=argv, prog="python -m bench kernels")
    unknown = set(config.kernels) - set(KERNELS)
    if unknown:
        raise SystemExit(f"--kernels must be of {', '.join(KERNELS)}; got {', '.join(sorted(unknown))}.")
    gpu = jax.default_backend() == "gpu"
    ids, table = config.ids or (1 << 20 if gpu else 1 << 16), config.rows or (1 << 21 if gpu else 1 << 17)
    copy = copy_bandwidth(1 << 28 if gpu else 1 << 25, config.repeats)
    facts = {"bench": "kernels", "ids": ids, "rows": table, "repeats": config.repeats, "device": device()}
    facts |= provenance(config.seed)
    found = [{**facts, "kernel": "copy", "name": "xla", **copy, "of_copy": 1.0}]
    for name in config.kernels:
        for sizes in sizes_of(KERNELS[name], config, ids, table):
            for row in case(KERNELS[name], sizes, config, gpu):
                found.append({**facts, **row, "of_copy": row["gb_per_s"] / copy["gb_per_s"]})
    rows.write(found, config.out)
    rows.show(found, COLUMNS, f"kernels on {device()}: {ids} ids, {table} rows")
    if not gpu:
        print("No GPU: the kernels themselves were not timed, for interpreted they would say nothing of their speed.")
    return 0


def device() -> str:
    return str(jax.devices()[0].device_kind)


def sizes_of(kernel: Kernel, config: KernelsConfig, ids: int, table: int) -> list[Sizes]:
    dims = config.dims if kernel.name in BY_DIM else config.dims[:1]
    dtypes = [dtype for dtype in config.dtypes if dtype in kernel.dtypes] or ["float32"]
    return [Sizes(ids=ids, rows=table, dim=dim, dtype=dtype) for dim in dims for dtype in dtypes]


def case(kernel: Kernel, sizes: Sizes, config: KernelsConfig, gpu: bool) -> list[dict[str, Any]]:
    """Rows of one workload: the kernel where there is a GPU, XLA's form, and torch's where there is one."""
    work = kernel.workload(np.random.default_rng(config.seed), sizes)
    plain = jax.jit(partial(kernel.reference, **work.options), donate_argnums=work.donated)
    competitors: dict[str, Callable[..., Any]] = {"xla": plain}
    if gpu:
        pallas = jax.jit(partial(kernel.call, **work.options), donate_argnums=work.donated)
        check(pallas(*fresh(work)), plain(*fresh(work)), kernel.name)
        competitors = {"pallas": pallas, **competitors}
    facts = {"kernel": kernel.name, "dim": sizes.dim if kernel.name in BY_DIM else None}
    facts |= {"dtype": sizes.dtype if kernel.name in BY_DIM else kernel.dtypes[0]}
    found = [{**facts, "name": name, **timed(f, work, config.repeats)} for name, f in competitors.items()]
    if kernel.name == "gather_pool" and sizes.dtype == "float32":
        found.append({**facts, "name": "torch embedding_bag", **embedding_bag(work, plain, config.repeats)})
    return found


def fresh(work: Workload) -> tuple[Any, ...]:
    """The arguments, those to be donated copied."""
    return tuple(jax.tree.map(jnp.copy, array) if i in work.donated else array for i, array in enumerate(work.arrays))


def check(got: Any, expected: Any, name: str) -> None:
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        x, y = (np.asarray(z.astype(jnp.float32) if jnp.issubdtype(z.dtype, jnp.floating) else z) for z in (x, y))
        if np.issubdtype(x.dtype, np.floating):
            scale = float(np.nanmax(np.abs(y), initial=0.0))
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4 * scale, err_msg=name)
        else:
            np.testing.assert_array_equal(x, y, err_msg=name)


def timed(f: Callable[..., Any], work: Workload, repeats: int) -> dict[str, Any]:
    """Median of single calls, each with its own copy of what it donates, made before the clock runs."""

    def prepare() -> tuple[Any, ...]:
        return jax.block_until_ready(fresh(work))

    return measured(lambda arrays: jax.block_until_ready(f(*arrays)), prepare, work, repeats)


def measured(call: Callable[[Any], Any], prepare: Callable[[], Any], work: Workload, repeats: int) -> dict[str, Any]:
    times = []
    for _ in range(1 + 3 + repeats):  # the first compiles, three warm up
        given = prepare()
        start = time.perf_counter()
        call(given)
        times.append(time.perf_counter() - start)
    seconds = statistics.median(times[4:])
    facts = {"ms": 1e3 * seconds, "bytes": work.bytes, "gb_per_s": work.bytes / seconds / 1e9}
    return facts | {"items_per_s": work.items / seconds if work.items else None, "first_call_s": times[0]}


def copy_bandwidth(elements: int, repeats: int) -> dict[str, Any]:
    """Read and write of so many float32, by XLA: the ceiling."""
    source = jnp.ones(elements, jnp.float32)
    work = Workload((source,), 8 * elements)
    return timed(jax.jit(lambda x: x + 1), work, repeats)


def embedding_bag(work: Workload, plain: Callable[..., Any], repeats: int) -> dict[str, Any]:
    """torch.nn.functional.embedding_bag on the same rows and bags, on the same device."""
    table, numbers, offsets = (torch.from_dlpack(work.arrays[i]) for i in range(3))
    numbers, offsets = numbers.long(), offsets.long()[:-1]
    call = partial(torch.nn.functional.embedding_bag, numbers, table, offsets, mode="sum")
    expected = torch.from_dlpack(plain(*work.arrays))
    torch.testing.assert_close(call(), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))

    def once(_: None) -> None:
        call()
        if table.is_cuda:
            torch.cuda.synchronize()

    return measured(once, lambda: None, work, repeats)
