"""What runs, in the order of what is worth most."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

TOTAL = 1200  # seconds

ON_GPU = {"RECIS_TEST_DEVICE": "cuda", "RECIS_PALLAS_INTERPRET": "0", "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
# What pyproject.toml asks of pytest names a plugin that may not be there.
PYTEST = (
    "-m",
    "pytest",
    "-o",
    "addopts=-q",
    "-W",
    "ignore::pytest.PytestConfigWarning",
    "-m",
    "not full",
    "--continue-on-collection-errors",
)
NAMES = (
    "bulk_insert",
    "dedup",
    "fused_update",
    "gather_pool",
    "pack_ids",
    "probe",
    "quantise",
    "row_dot",
    "segment_sum",
)
KERNELS = tuple(f"tests/kernels/test_{name}.py" for name in (*NAMES, "select_rows"))


@dataclass(frozen=True)
class Part:
    """One command of this Python; ROWS in it stands for the file that its rows go to.

    budget: seconds, then it is stopped. needs: modules; without one of them it fails at once, and says so.
    """

    name: str
    command: tuple[str, ...]
    budget: int
    needs: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()

    def missing(self) -> list[str]:
        return [name for name in self.needs if importlib.util.find_spec(name) is None]

    def argv(self, rows: Path) -> list[str]:
        return [sys.executable, *(str(rows) if word == "ROWS" else word for word in self.command)]


def tests(name: str, budget: int, *words: str) -> Part:
    return Part(name, (*PYTEST, *words), budget, ("pytest",), tuple(ON_GPU.items()))


def bench(name: str, budget: int, *words: str) -> Part:
    return Part(f"bench-{name}", ("-m", "bench", name, *words, "--out", "ROWS"), budget, ("tyro", "pydantic"))


PARTS = (
    Part("machine", ("-m", "tests.gpu.machine", "ROWS"), 60, ("jax", "torch")),
    tests("kernels", 180, *KERNELS),
    tests("contract-pallas", 240, "tests/contract", "-k", "pallas"),
    Part("nccl", ("-m", "tests.gpu.nccl"), 90, ("jax", "torch")),
    bench("kernels", 150),
    bench("step", 150, "--dims", "16", "64", "128", "--optimizers", "adam", "--ids", "zipf"),
    Part("autotune", ("-m", "recis_core.pallas_kernels.autotune"), 120, ("jax",)),
    tests("contract-jax", 120, "tests/contract", "-k", "jax"),
    bench(
        "cache",
        90,
        "--traces",
        "zipf-drift",
        "--capacities",
        ".1",
        "--zipf-rows",
        "2048",
        "--disk-rows",
        "0",
        "--turns",
        "1",
    ),
)
