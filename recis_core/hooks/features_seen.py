"""What a model's engines were asked for since the last step, so that an id can be traced to its feature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from recis_core.nn import EmbeddingEngine


class FeaturesSeen:
    """Keeps references to the inputs of training forwards until `forget`."""

    def __init__(self, model: nn.Module) -> None:
        self._engines = [module for module in model.modules() if isinstance(module, EmbeddingEngine)]
        self._calls: list[tuple[EmbeddingEngine, Any]] = []
        note = torch.compiler.disable(self._note)
        self._handles = [engine.register_forward_pre_hook(note, with_kwargs=True) for engine in self._engines]

    def _note(self, engine: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if engine.training:
            self._calls.append((engine, args[0] if args else kwargs.get("features")))

    def of(self, table: str, ids: Tensor) -> list[str]:
        """The features that asked a table for one of these ids, int64 [n] on the CPU; all of the table's if none is known."""
        asked = dict.fromkeys(
            feature
            for engine, features in self._calls
            for feature, theirs in _ids(engine, features, engine.features_of(table)).items()
            if bool(torch.isin(ids, theirs.cpu()).any())
        )
        return list(asked) or [feature for engine in self._engines for feature in engine.features_of(table)]

    def forget(self) -> None:
        self._calls.clear()

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()
        self.forget()


def _ids(engine: EmbeddingEngine, features: Any, names: list[str]) -> dict[str, Tensor]:
    if not names:
        return {}
    ids = engine.ids_of(features)
    return {name: ids[name] for name in names}
