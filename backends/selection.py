"""Which backend runs: RECIS_BACKEND, or a table's own choice; only `auto` may choose."""

from __future__ import annotations

import importlib
import importlib.util
import os
from functools import cache
from typing import Any

from recis_core.backends import forked
from recis_core.backends.errors import BackendUnavailable
from recis_core.backends.interface import Backend

NAMES = ("torch", "numba", "jax", "pallas")


@cache
def get(name: str) -> Backend:
    """The backend of that name, made once.

    Raises:
      ValueError: there is no such backend.
      BackendUnavailable: it cannot run here.
    """
    if name not in NAMES:
        raise ValueError(f"RECIS_BACKEND must be auto, {', '.join(NAMES)}; got {name!r}.")
    reason = why_not(name)
    if reason is not None:
        raise BackendUnavailable(reason)
    if name in ("jax", "pallas"):
        _jax()
    return importlib.import_module(f"recis_core.backends.{name}_backend").create_backend()


def why_not(name: str) -> str | None:
    """Why a backend cannot run here, with the way out; None if it can."""
    if name == "torch":
        return None
    package = "jax" if name == "pallas" else name
    if importlib.util.find_spec(package) is None:
        return f"RECIS_BACKEND={name} needs the package {package}. Install it (pip install {package}) or use RECIS_BACKEND=torch."
    if name == "pallas":
        return _why_not_pallas()
    return None


def _why_not_pallas() -> str | None:
    if os.environ.get("RECIS_PALLAS_INTERPRET") == "1":
        return None
    devices = _jax().devices()
    if any(device.platform == "gpu" for device in devices):
        return None
    return (
        f"RECIS_BACKEND=pallas needs a CUDA device that JAX can see; jax.devices() gives {devices}. "
        "Use RECIS_BACKEND=numba here, or RECIS_PALLAS_INTERPRET=1 to test kernels on the CPU (slow)."
    )


def automatic() -> str:
    """What `auto` stands for here: pallas where JAX sees a GPU, else numba, else torch."""
    import torch

    if torch.cuda.is_available() and why_not("pallas") is None:
        return "pallas"
    return "numba" if why_not("numba") is None else "torch"


def select(name: str | None = None) -> Backend:
    """The backend `name`, else the one RECIS_BACKEND names, else what `auto` picks."""
    name = name or os.environ.get("RECIS_BACKEND") or "auto"
    name = automatic() if name == "auto" else name
    if forked.generation():
        forked.prepare(name)
    return get(name)


def available() -> list[str]:
    """Names of the backends that run here."""
    return [name for name in NAMES if why_not(name) is None]


def describe() -> dict[str, str]:
    """Each backend: "runs here", or why it does not."""
    return {name: why_not(name) or "runs here" for name in NAMES}


def jax_devices() -> list[str]:
    """What JAX sees here; empty without JAX."""
    if importlib.util.find_spec("jax") is None:
        return []
    return [str(device) for device in _jax().devices()]


def _jax() -> Any:
    # Read when JAX first looks at a GPU; without it, JAX takes most of its memory from torch.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    return jax
