"""Every contract test runs on every backend; one that cannot be made is an error, never a skip."""

from __future__ import annotations

import pytest

from recis_core import backends
from recis_core.backends.selection import NAMES
from tests.contract.on_device import on_device
from tests.contract.recorded import Recorded
from tests.pairwise import pairwise


@pytest.fixture(params=NAMES)
def backend(request: pytest.FixtureRequest) -> Recorded:
    return Recorded(request.param, on_device(backends.get(request.param)))


@pytest.fixture(params=[name for name in NAMES if name != "pallas"])
def compiled_backend(request: pytest.FixtureRequest) -> Recorded:
    """For thousands of rows: Pallas' interpreter copies the table at each kernel, and places ids as jax does."""
    return Recorded(request.param, on_device(backends.get(request.param)))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The count of stages runs last, and only where all of the suite, or the count itself, was asked for."""
    _spare_the_interpreter(items)
    _spare_the_compiler(items)
    _spare_the_compiler_at_the_edges(items)
    last = [item for item in items if item.name == "test_every_stage_ran_on_every_backend"]
    for item in last:
        items.remove(item)
    whole = not config.option.keyword and not any("::" in arg or arg.endswith(".py") for arg in config.args)
    named = any(arg.endswith("::test_every_stage_ran_on_every_backend") for arg in config.args)
    if whole or named:
        items += last
    elif last:
        config.hook.pytest_deselected(items=last)


def _spare_the_interpreter(items: list[pytest.Item]) -> None:
    """Pallas places, checks saved states, and encodes what is not its quantise kernel's, as jax does, run here under jax.

    One case of each kind stays, the others run in full.
    """
    kept = ("test_evicting_table", "test_updates_do_not_move_rows")
    kernels = tuple(f"test_bytes[pallas-{kind}-" for kind in ("fp8", "int8", "int4"))
    for item in items:
        if item.name.startswith("test_bytes[pallas") and not (item.name.startswith(kernels) or "-dim_7-" in item.name):
            item.add_marker("full")
        if item.path.name == "test_snapshot_checks.py" and "[pallas" in item.name:
            item.add_marker("full")
        if item.path.name == "test_placement.py" and "[pallas" in item.name and not item.name.startswith(kept):
            item.add_marker("full")


def _spare_the_compiler(items: list[pytest.Item]) -> None:
    """jax compiles a program a codec, width and residual: every two of codec, rows and residual meet; all in full."""
    cases = [item for item in items if item.name.startswith(("test_bytes[jax", "test_bytes[pallas"))]
    for name in ("jax", "pallas"):
        mine = [
            item for item in cases if item.callspec.params["backend"] == name and not item.get_closest_marker("full")
        ]
        factors = [tuple(str(v) for k, v in sorted(item.callspec.params.items()) if k != "backend") for item in mine]
        kept = pairwise(factors)
        for number, item in enumerate(mine):
            if number not in kept:
                item.add_marker("full")


def _spare_the_compiler_at_the_edges(items: list[pytest.Item]) -> None:
    """Of the sweeps at the edges of float32 jax and pallas run what differs most; all in full."""
    codecs = tuple(
        f"test_rows_at_the_edges[{b}-{c}-residual]" for b in ("jax", "pallas") for c in ("bf16", "int8", "sign")
    )
    for item in items:
        compiles = "[jax" in item.name or "[pallas" in item.name
        if compiles and item.path.name == "test_extremes_codec.py" and item.name not in codecs:
            item.add_marker("full")
        if compiles and item.name.startswith("test_weights_of") and not any(c in item.name for c in ("mean", "sqrtn")):
            item.add_marker("full")
        if compiles and item.name.endswith(("-sgd]", "-momentum]")):
            item.add_marker("full")
