"""Every jitted program of the backend, and how often each was compiled.

jit compiles a program when it traces it for new shapes and static arguments; a side effect of the
Python function counts these traces. State arguments are donated.

Sizes: N keys (padded), R rows, D dim.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import jax

from recis_core.backends.compiling import JAX
from recis_core.backends.jax_backend import embed, erase, gradient, grow, id_packing, row_codes, stages
from recis_core.backends.jax_backend.loops import Loops

GROWTH = ("grown", "more_rows")
COMPILED = "/jax/core/compile/backend_compile_duration"


def _opening(name: str) -> str:
    if JAX.count == 0:
        return "jax compiles its programs for the sizes of these batches and tables: about 20 s on an idle machine"
    if name in GROWTH:
        return "a table grows: jax compiles its programs for the new size, about 5 s on an idle machine"
    return f"jax compiles {name} for another size of batch or table: some seconds"


def _heard(event: str, seconds: float, **details: Any) -> None:
    if event == COMPILED:
        JAX.ends()


jax.monitoring.register_event_duration_secs_listener(_heard)


class Programs:
    """The programs of one backend; `compiled` counts by name."""

    def __init__(self, loops: Loops) -> None:
        self.loops = loops
        self.compiled: Counter[str] = Counter()
        self.embed = self._program(embed.embed_call, donate=(0, 1, 2), static=("plan",))
        self.seek_call = self._program(partial(embed.seek_call, loops=loops), donate=(0,), static=("index_plan",))
        self.pool_call = self._program(embed.pool_call, static=("plan",))
        self.embed_grad = self._program(embed.embed_grad_call, static=("plan",))
        self.partition = self._program(partial(stages.partition, loops=loops))
        self.lookup = self._program(partial(stages.lookup, loops=loops), donate=(0,), static=("manner",))
        self.write_initial = self._program(stages.write_initial, donate=(0, 1), static=("slot_initials",))
        self.gather = self._program(partial(stages.gather, loops=loops), static=("unknown_initial",))
        self.pool = self._program(partial(stages.pool, loops=loops), static=("pooling",))
        self.pool_grad = self._program(partial(stages.pool_grad, loops=loops), static=("pooling",))
        self.combine = self._program(partial(gradient.combine, loops=loops))
        self.by_occurrence = self._program(gradient.by_occurrence)
        self.pad_gradient = self._program(stages.pad_gradient, static=("size",))
        self.measure = self._program(gradient.measure)
        self.words = self._program(stages.words)
        self.update = self._program(partial(stages.update, loops=loops), donate=(0, 1), static=("rule",))
        self.encode = self._program(partial(row_codes.encode, loops=loops), static=("codec",))
        self.decode = self._program(partial(row_codes.decode, loops=loops), static=("codec", "dim"))
        self.pack_ids = self._program(partial(id_packing.pack_ids, loops=loops))
        self.unpack_ids = self._program(partial(id_packing.unpack_ids, loops=loops), static=("size",))
        self.norm_order = self._program(partial(row_codes.norm_order, loops=loops))
        self.erase = self._program(partial(erase.erase, loops=loops), donate=(0,))
        self.grow_index = self._program(grow.grown, static=("buckets", "capacity"))
        self.grow_rows = self._program(grow.more_rows, static=("capacity",))
        self.rows_by_table = self._program(stages.rows_by_table)
        self.read_rows = self._program(stages.read_rows)
        self.write_rows = self._program(stages.write_rows, donate=(0,))
        self.write_marks = self._program(partial(stages.write_marks, loops=loops), donate=(0,))

    def _program(
        self, function: Callable[..., Any], *, donate: tuple[int, ...] = (), static: tuple[str, ...] = ()
    ) -> Callable[..., Any]:
        name = (function.func if isinstance(function, partial) else function).__name__

        @wraps(function.func if isinstance(function, partial) else function)
        def traced(*args: Any, **kwargs: Any) -> Any:
            self.compiled[name] += 1
            JAX.begins(name, _opening(name), news=name in GROWTH)
            return function(*args, **kwargs)

        return jax.jit(traced, donate_argnums=donate, static_argnames=static)
