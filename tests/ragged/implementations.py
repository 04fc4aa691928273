"""Both implementations of an op, in turn; and the second on a GPU, if RECIS_TEST_DEVICE names one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from recis_core.ragged import RaggedTensor

DEVICE = os.environ.get("RECIS_TEST_DEVICE", "cpu")
NAMES = ("numba", "torch", *([DEVICE] if DEVICE != "cpu" else []))


@pytest.fixture(params=NAMES)
def implementation(request: pytest.FixtureRequest) -> Iterator[str]:
    """Compiled loops, then plain torch; under RECIS_TEST_DEVICE=cuda plain torch there, too."""
    with chosen(request.param):
        yield request.param


@contextmanager
def chosen(name: str) -> Iterator[None]:
    """A device is torch's default one meanwhile, so that a test's tensors are made there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECIS_BACKEND", "numba" if name == "numba" else "torch")
        if name in ("numba", "torch"):
            yield
        else:
            with torch.device(name):
                yield


def in_both(op: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What both give, as plain lists."""
    found = []
    for name in NAMES:
        with chosen(name):
            found.append(plain(op(*moved(arguments))))
    return found


def moved(found: Any) -> Any:
    """Tensors and RaggedTensors on torch's default device, in lists as well."""
    if isinstance(found, list | tuple):
        return type(found)(map(moved, found))
    return found.to(torch.get_default_device()) if isinstance(found, torch.Tensor | RaggedTensor) else found


def plain(found: Any) -> Any:
    """Tensors and RaggedTensors as lists; of these values, offsets and weights."""
    if isinstance(found, list | tuple):
        return [plain(part) for part in found]
    if isinstance(found, RaggedTensor):
        weight = None if found.weight() is None else found.weight().tolist()
        return (plain(found.values()), [level.tolist() for level in found.offsets()], weight)
    return (str(found.dtype), tuple(found.shape), found.tolist()) if isinstance(found, torch.Tensor) else found
