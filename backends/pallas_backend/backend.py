"""The JAX backend on Pallas kernels: compiled for a GPU, or interpreted on a CPU (RECIS_PALLAS_INTERPRET=1)."""

from __future__ import annotations

import os

from recis_core.backends.errors import BackendUnavailable
from recis_core.backends.interface import Backend, State
from recis_core.backends.jax_backend.backend import JaxBackend
from recis_core.backends.pallas_backend.pallas_loops import pallas_loops
from recis_core.backends.spec import TableSpec
from recis_core.pallas_kernels.tuning import MAX_DIM


class PallasBackend(JaxBackend):
    """JaxBackend with kernels as its loops; refuses tables that the kernels cannot serve."""

    name = "pallas"

    def __init__(self, interpret: bool) -> None:
        super().__init__(pallas_loops(interpret))
        self.interpret = interpret

    def create(self, spec: TableSpec) -> State:
        """See Backend.create.

        Raises:
          BackendUnavailable: the table lives on the CPU, where kernels are not compiled, or its rows are too wide.
        """
        if spec.dim > MAX_DIM:
            raise BackendUnavailable(
                f"pallas kernels serve dim up to {MAX_DIM}; got dim={spec.dim}. Use RECIS_BACKEND=jax for this table."
            )
        if spec.device == "cpu" and not self.interpret:
            raise BackendUnavailable(
                "pallas compiles kernels for CUDA tables; got device='cpu'. Use device='cuda', RECIS_BACKEND=jax, "
                "or RECIS_PALLAS_INTERPRET=1 to test kernels on the CPU (slow)."
            )
        return super().create(spec)


def create_backend() -> Backend:
    """RECIS_PALLAS_INTERPRET=1 allows tables on the CPU, with interpreted kernels."""
    return PallasBackend(interpret=os.environ.get("RECIS_PALLAS_INTERPRET") == "1")
