"""Hooks of tables, by the name of their implementation and its parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class BaseHook:
    """A registered name and the implementation's parameters."""

    def __init__(self, name: str, params: Mapping[str, Any] | None = None) -> None:
        self._name, self._params = name, dict(params or {})

    @property
    def name(self) -> str:
        return self._name

    @property
    def params(self) -> dict[str, Any]:
        return self._params

    def __str__(self) -> str:
        return json.dumps({"name": self._name, "params": self._params}, sort_keys=True)


class AdmitHook(BaseHook):
    """Which unknown ids get a row in training. AdmitHook("ReadOnly"): none do, and they read as zeros."""

    @property
    def type(self) -> str:
        return "admit"


class FilterHook(BaseHook):
    """Which rows are deleted when HashTableFilterHook filters.

    FilterHook("GlobalStepFilter", {"filter_step": 100, "name": "step_filter"}): rows last used more than filter_step steps
    ago. Steps are calls of HashTableFilterHook.after_step, and `name` is that of the slot.
    """

    @property
    def type(self) -> str:
        return "filter"
