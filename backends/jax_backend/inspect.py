"""The memory of compiled programs that change a table, for tests of in-place updates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax

from recis_core.backends.jax_backend.state import TableState


@dataclass(frozen=True)
class Memory:
    """Bytes. In place: alias is all of the donated state, and temp, which a copy would enlarge, does not grow with it."""

    state: int
    alias: int
    temp: int


def state_bytes(state: TableState) -> int:
    return sum(x.nbytes for x in jax.tree.leaves((state.index, state.weights, state.slots)))


def memory(program: Any, *args: Any, donated: int, **static: Any) -> Memory:
    """Compile a program of `Programs` for these arguments (arrays or shapes) and read its memory.

    donated: bytes of the arguments it may write to.
    """
    compiled = program.lower(*args, **static).compile()
    sizes = compiled.memory_analysis()
    return Memory(donated, sizes.alias_size_in_bytes, sizes.temp_size_in_bytes)
