"""The flags of many processes: where tables live, and how rows travel between ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic.dataclasses import dataclass

from recis_core.cli import torchrun
from recis_core.cli.flags import naming_flag, plain_errors
from recis_core.exchange import Precision, Sharding
from recis_core.options.plan_file import read_plan


@plain_errors
@dataclass(frozen=True, kw_only=True)
class ExchangeFlags:
    """Between processes that torchrun starts."""

    precision: str = "fp32"
    """Between processes: how rows and gradients travel. fp32, bf16, int8; forward=bf16,backward=int4+sr+ef;
    forward=int8,backward=topk(10%,int8)+ef; fp32@1000,int8 by step."""
    sharding: str = "row"
    """Between processes: where tables live. row, table:1 or replicated for all, or a .yaml file of
    `recis plan --out` by table name; FIELD:linear of DeepFM goes with FIELD unless it is named itself."""

    def __post_init__(self) -> None:
        self.read_precision()
        if not self._names_a_plan:
            self.read_sharding(1)

    def check_here(self) -> None:
        self.read_sharding(torchrun.started())

    def build(self, world: int) -> dict[str, Any]:
        """Options of tables."""
        return {"precision": self.read_precision(), "sharding": self.read_sharding(world)}

    def read_precision(self) -> Precision:
        with naming_flag("precision", self.precision):
            return Precision.parse(self.precision)

    def read_sharding(self, world: int) -> Sharding | dict[str, Sharding]:
        """One for all tables, or a plan's by table name.

        Raises:
          ValueError: it is neither, or names a rank that is not there. FileNotFoundError: there is no such plan.
        """
        with naming_flag("sharding", self.sharding, "sharding"):
            if self._names_a_plan:
                return read_plan(self.sharding, world_size=world if world > 1 else None)
            sharding = Sharding.parse(self.sharding)
            if world > 1:
                sharding.check_world(world)
            return sharding

    @property
    def _names_a_plan(self) -> bool:
        return Path(self.sharding).suffix in (".yaml", ".yml")
