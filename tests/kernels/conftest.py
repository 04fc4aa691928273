"""These tests need jax, numpy and pytest only: `pytest tests/kernels --confcutdir=tests/kernels` runs without torch."""

import os

import pytest

from tests.pairwise import each_value

FEW = 6  # cases of a test that are not worth sampling


def pytest_configure(config: pytest.Config) -> None:
    # jax 0.11 announces the end of the Triton lowering at each use; launch.py is where we would leave it.
    config.addinivalue_line("filterwarnings", "ignore:.*(Triton|triton).*:DeprecationWarning")
    if os.environ.get("RECIS_TEST_DEVICE") == "cuda":
        _compile_what_would_be_interpreted()


def _compile_what_would_be_interpreted() -> None:
    """make gpu: tests say interpret=True of each kernel, and launch.py asks `pl` for its pallas_call at each call."""
    from jax.experimental import pallas as pl

    as_asked = pl.pallas_call
    pl.pallas_call = lambda *args, **how: as_asked(*args, **{**how, "interpret": False})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test of two factors or more, such as form and dim, a plain run shows each value once; a full one every two."""
    cases: dict[str, list[pytest.Function]] = {}
    for item in items:
        if isinstance(item, pytest.Function) and item.path.parent.name == "kernels" and hasattr(item, "callspec"):
            cases.setdefault(item.nodeid.split("[")[0], []).append(item)
    for mine in cases.values():
        rows = [[str(value) for value in item.callspec.params.values()] for item in mine]
        if len(mine) > FEW and len(rows[0]) > 1 and not any(item.get_closest_marker("full") for item in mine):
            for number in set(range(len(mine))) - each_value(rows):
                mine[number].add_marker("full")


@pytest.fixture(scope="session")
def toolchain() -> None:
    """Skips, and says why, where nothing compiles for CUDA."""
    from recis_core.pallas_kernels import aot

    try:
        aot.h200()
    except aot.ToolchainMissing as missing:
        pytest.skip(f"toolchain missing: {missing}")
