"""These tests need jax, numpy and pytest only: `pytest tests/kernels --confcutdir=tests/kernels` runs without torch."""

import os

import pytest


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


@pytest.fixture(scope="session")
def toolchain() -> None:
    """Skips, and says why, where nothing compiles for CUDA."""
    from recis_core.pallas_kernels import aot

    try:
        aot.h200()
    except aot.ToolchainMissing as missing:
        pytest.skip(f"toolchain missing: {missing}")
