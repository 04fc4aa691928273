"""recis plan: where a model's tables go on many ranks, what that takes of memory and links, and how even it is."""

from __future__ import annotations

import json
from typing import Annotated

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from recis_core.cli.flags import plain_errors
from recis_core.cli.read_flags import read_flags
from recis_core.options.plan_file import write_plan
from recis_core.planning import Plan, make_plan, read_model
from recis_core.planning.quantity import parse_bytes


@plain_errors
@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """Propose a placement of a model's tables from their sizes, skew and pooling factors. Needs no GPU and no data."""

    model: Annotated[str, tyro.conf.Positional]
    """A YAML file: tables, batch size, precision, links. bench/models/ has two to begin with."""
    world: Annotated[int, Field(ge=1)]
    """Ranks."""
    hbm: str
    """Memory of a rank: 80GB, 40GiB."""
    out: str | None = None
    """Write the shardings to this YAML file, for training to read."""
    json: bool = False
    """One JSON object instead of tables."""


def run(argv: list[str]) -> int:
    config = read_flags(PlanConfig, argv, "recis plan")
    plan = make_plan(read_model(config.model), config.world, _hbm(config.hbm))
    if config.out is not None:
        write_plan(config.out, plan.shardings, _comment(config, plan))
    if config.json:
        print(json.dumps(plan.as_json()))
        return 0
    from recis_core.cli.plan_report import show

    show(plan)
    return 0


def _hbm(text: str) -> int:
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise ValueError(f"--hbm: {error}") from None


def _comment(config: PlanConfig, plan: Plan) -> str:
    name = plan.model or "a model"
    return f"{name}: {plan.parameters:,} parameters on {config.world} ranks of {config.hbm}, by recis plan"
