"""These tests need jax, numpy and pytest only: `pytest tests/kernels --confcutdir=tests/kernels` runs without torch."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    # jax 0.11 announces the end of the Triton lowering at each use; launch.py is where we would leave it.
    config.addinivalue_line("filterwarnings", "ignore:.*(Triton|triton).*:DeprecationWarning")


@pytest.fixture(scope="session")
def toolchain() -> None:
    """Skips, and says why, where nothing compiles for CUDA."""
    from recis_core.pallas_kernels import aot

    try:
        aot.h200()
    except aot.ToolchainMissing as missing:
        pytest.skip(f"toolchain missing: {missing}")
