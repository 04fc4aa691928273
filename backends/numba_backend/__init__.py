"""Compiled CPU loops in place on host memory: the default on a machine without a GPU."""

from recis_core.backends.numba_backend.backend import NumbaBackend


def create_backend() -> NumbaBackend:
    return NumbaBackend()


__all__ = ["NumbaBackend", "create_backend"]
