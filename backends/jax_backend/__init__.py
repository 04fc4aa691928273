"""The JAX backend: XLA programs on JAX-owned state, updated in place by donation, on any JAX device."""

from recis_core.backends.jax_backend.backend import JaxBackend


def create_backend() -> JaxBackend:
    return JaxBackend()


__all__ = ["JaxBackend", "create_backend"]
