"""torch and JAX in one program: arrays on shared memory, and functions that carry gradients."""

from recis_core.bridge.autograd import jax_function
from recis_core.bridge.dense import torch_module_to_jax
from recis_core.bridge.dlpack import ids_to_jax, ids_to_torch, to_jax, to_torch
from recis_core.bridge.errors import BridgeError
from recis_core.bridge.lifetime import hold

__all__ = [
    "BridgeError",
    "hold",
    "ids_to_jax",
    "ids_to_torch",
    "jax_function",
    "to_jax",
    "to_torch",
    "torch_module_to_jax",
]
