"""A backend whose tables live on a GPU, under tests that hold everything on the CPU: RECIS_TEST_DEVICE=cuda."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch

from recis_core.backends import Backend, TableSpec, records

DEVICE = os.environ.get("RECIS_TEST_DEVICE", "cpu")
ON_THE_CPU = (records.Snapshot, records.Marks)  # wherever the table is


class OnDevice:
    """Brings what goes into each stage to the device, and what comes out of it back; states stay where they are."""

    def __init__(self, backend: Backend, device: str = DEVICE) -> None:
        self.backend, self.device = backend, device

    def create(self, spec: TableSpec) -> Any:
        return self.backend.create(replace(spec, device=self.device))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.backend, name)
        return self._stage(found) if callable(found) else found

    def _stage(self, stage: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            there = moved(args, self.device), moved(named, self.device)
            return moved(stage(*there[0], **there[1]), "cpu")

        return call


def moved(value: Any, device: str) -> Any:
    """The same with its tensors on the device, in lists, dicts and records; anything else is a backend's own, and left."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if type(value) in (list, tuple):
        return type(value)(moved(v, device) for v in value)
    if type(value) is dict:
        return {name: moved(v, device) for name, v in value.items()}
    if is_dataclass(value) and type(value).__module__ == records.__name__ and not isinstance(value, ON_THE_CPU):
        return replace(value, **{f.name: moved(getattr(value, f.name), device) for f in fields(value) if f.init})
    return value


def on_device(backend: Backend) -> Any:
    return backend if DEVICE == "cpu" else OnDevice(backend)
