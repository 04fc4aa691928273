"""Placing a model's tables on many ranks, on paper."""

from recis_core.planning.model_file import ModelFile, read_model
from recis_core.planning.plan import Plan, make_plan
from recis_core.planning.shortage import PlanDoesNotFit

__all__ = ["ModelFile", "Plan", "PlanDoesNotFit", "make_plan", "read_model"]
