"""What a state's arrays are of: static, hashable, so that jit compiles once for each configuration."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from recis_core.backends import SlotSpec, TableSpec
from recis_core.jax.rules import Rule
from recis_core.options.initializers import Initializer, UniformInitializer
from recis_core.table.uid import distinct_uids


@dataclass(frozen=True)
class TableConfig:
    """One storage: the tables `names`, which share its index and rows.

    Args:
      names: a name, or several. Equal names, seeds and initializers give equal initial values, on the torch side too.
      dim: columns of a row.
      rule: how `update` changes rows; None for tables that are only read.
      rows: rows to make room for at first.
      max_rows: the most rows that `reserve` makes room for; None for any number.
      initializer: of recis_core.nn; None is UniformInitializer(), ±1/sqrt(dim).
      seed: of initial values and rounding, 64 bits.
      dtype: storage of weights, "float32" or "bfloat16" (updates then round stochastically). Slots stay float32.
      score: what marks keep of a row's use: "step", its last step, or "count", its touches.

    Raises:
      ValueError: a value is out of range, or two names have one uid. TypeError: rule is no Rule.
    """

    names: str | tuple[str, ...]
    dim: int
    rule: Rule | None = None
    rows: int = 10_240
    max_rows: int | None = None
    initializer: Initializer | None = None
    seed: int = 0
    dtype: str = "float32"
    score: str = "step"

    def __post_init__(self) -> None:
        if self.rule is not None and not isinstance(self.rule, Rule):
            raise TypeError(
                f"rule must be one of recis_core.jax, as Adam(lr=1e-3); got {type(self.rule).__name__}. "
                "optax's rules are for dense parameters."
            )
        if self.rows < 1:
            raise ValueError(f"rows must be at least 1; got {self.rows}.")
        object.__setattr__(self, "names", (self.names,) if isinstance(self.names, str) else tuple(self.names))
        object.__setattr__(self, "initializer", self.initializer or UniformInitializer())
        self.spec  # noqa: B018, checks the other values

    @cached_property
    def spec(self) -> TableSpec:
        """The same as backends know it."""
        return TableSpec(
            dim=self.dim,
            uids=distinct_uids(list(self.names)),
            dtype=self.dtype,
            seed=self.seed,
            distribution=self.initializer.distribution(self.dim),  # type: ignore[union-attr]
            rows=self.rows,
            max_rows=self.max_rows,
            score=self.score,
        )

    @property
    def slots(self) -> tuple[SlotSpec, ...]:
        """The rule's slots, in its order."""
        return () if self.rule is None else self.rule.slots(self.dim)

    @property
    def slot_initials(self) -> tuple[float, ...]:
        return tuple(slot.initial for slot in self.slots)

    def ordinal(self, name: str) -> int:
        """Raises ValueError unless the storage has a table of that name."""
        if name not in self.names:
            raise ValueError(f"the state holds tables {', '.join(self.names)}; got {name!r}.")
        return self.names.index(name)
