"""Placing a model's tables on many ranks, on paper."""

from recis_core.backends.errors import PlanDoesNotFit
from recis_core.planning.model_file import ModelFile, read_model
from recis_core.planning.plan import Plan, make_plan

__all__ = ["ModelFile", "Plan", "PlanDoesNotFit", "make_plan", "read_model"]
