"""recis_core.jax beside the torch side, and what jit makes of it."""
