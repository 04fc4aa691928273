"""Both implementations of an op, in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from recis_core.ragged import RaggedTensor

NAMES = ("numba", "torch")


@pytest.fixture(params=NAMES)
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Compiled loops, then plain torch."""
    monkeypatch.setenv("RECIS_BACKEND", request.param)
    return str(request.param)


@contextmanager
def chosen(name: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECIS_BACKEND", name)
        yield


def in_both(op: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What both give, as plain lists."""
    found = []
    for name in NAMES:
        with chosen(name):
            found.append(plain(op(*arguments)))
    return found


def plain(found: Any) -> Any:
    """Tensors and RaggedTensors as lists; of these values, offsets and weights."""
    if isinstance(found, list | tuple):
        return [plain(part) for part in found]
    if isinstance(found, RaggedTensor):
        weight = None if found.weight() is None else found.weight().tolist()
        return (plain(found.values()), [level.tolist() for level in found.offsets()], weight)
    return (str(found.dtype), tuple(found.shape), found.tolist()) if isinstance(found, torch.Tensor) else found
