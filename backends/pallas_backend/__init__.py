"""The JAX backend with its loops replaced by pallas_kernels/: the default where JAX sees a GPU."""

from recis_core.backends.pallas_backend.backend import create_backend

__all__ = ["create_backend"]
