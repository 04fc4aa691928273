"""Each kernel in plain jnp, under its own name: what it must give, and what XLA makes of it."""
