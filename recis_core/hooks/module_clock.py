"""Wall time inside modules of a model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

Kinds = Mapping[str, tuple[type[nn.Module], ...]]


class ModuleClock:
    """Seconds in training forwards of a model's modules, by the name of their kind; inner ones count as their outermost.

    On a GPU it is the time in which the host starts kernels.
    """

    def __init__(self, model: nn.Module, kinds: Kinds) -> None:
        self.seconds = dict.fromkeys(kinds, 0.0)
        self._began: list[float] = []
        self._handles: list[Any] = []
        for kind, types in kinds.items():
            for module in (m for m in model.modules() if isinstance(m, types)):
                self._watch(kind, module)

    def _watch(self, kind: str, module: nn.Module) -> None:
        before, after = torch.compiler.disable(self._begin), torch.compiler.disable(partial(self._end, kind))
        self._handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]

    def _begin(self, module: nn.Module, args: Any) -> None:
        if module.training:
            self._began.append(time.perf_counter())

    def _end(self, kind: str, module: nn.Module, args: Any, output: Any) -> None:
        if module.training and self._began:
            began = self._began.pop()
            if not self._began:
                self.seconds[kind] += time.perf_counter() - began

    def new_step(self) -> None:
        """Forget forwards that an error broke off."""
        self._began.clear()

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
