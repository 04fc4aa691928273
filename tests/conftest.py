"""Set before any backend is imported. Imports neither torch nor jax: tests/kernels runs without torch."""

import os
import signal
import sys
from collections.abc import Iterator
from importlib.metadata import version

os.environ.setdefault("RECIS_PALLAS_INTERPRET", "1")  # Pallas kernels run on the CPU here, in JAX's interpreter
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning OpenMP threads cost 8 ms a region on a busy machine
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # halves compile times here; 0 tests what users run
if os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1" and version("jaxlib").startswith("0.10."):
    # Halves them again. jaxlib 0.11 has the fusion emitters only, and ends a process that names a flag it lacks.
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1")

# A script starts what it puts into the background with Ctrl-C ignored, and so would be all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest

from tests.compiled_cases import left_to_full_runs
from tests.garbage import pytest_collection_finish  # noqa: F401
from tests.left_to_full import gone, left_to_full

# Of memory, with which compiled programs go on to the next file of tests. One file of a full run may need nearly all there are.
KEPT_MAPPINGS = 0 if os.environ.get("RECIS_TEST_FULL") == "1" else 15_000


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in left_to_full(items):
        item.add_marker("full")
    if not any("::" in arg for arg in config.args) and (lost := gone(items)):
        raise pytest.UsageError(f"tests/left_to_full.txt lists what is not there: {', '.join(lost)}")
    for item in left_to_full_runs(items):
        item.add_marker("full")


@pytest.fixture(params=["torch", "numba", "jax", "pallas"])
def backend(request):
    """The name of each backend in turn."""
    return request.param


@pytest.fixture(params=["torch", "numba", *(["jax", "pallas"] if os.environ.get("RECIS_TEST_FULL") == "1" else [])])
def eager_backend(request):
    """The name of each backend that compiles nothing for long, where a case says little of the others."""
    return request.param


@pytest.fixture(scope="module", autouse=True)
def release_compiled_programs() -> Iterator[None]:
    """A compiled CPU program holds tens of memory mappings; past vm.max_map_count (65,530) XLA crashes compiling."""
    yield
    if "jax" in sys.modules and mappings() > KEPT_MAPPINGS:
        sys.modules["jax"].clear_caches()


def mappings() -> int:
    """Memory mappings of this process; where the system does not tell, more than may be kept."""
    try:
        with open("/proc/self/maps", "rb") as file:
            return sum(1 for _ in file)
    except OSError:
        return KEPT_MAPPINGS + 1
