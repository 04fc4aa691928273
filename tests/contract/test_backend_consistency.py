"""Every backend's stages have the contract's parameter names, kinds and defaults."""

import inspect
from collections.abc import Callable

import pytest

from recis_core import backends
from recis_core.backends import Backend
from recis_core.backends.selection import NAMES

STAGES = [name for name, value in vars(Backend).items() if callable(value) and not name.startswith("_")]


def _parameters(function: Callable) -> list[tuple[str, object, object]]:
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values() if p.name != "self"]


def test_the_contract_has_stages() -> None:
    assert {"create", "embed", "embed_grad", "update", "export"} <= set(STAGES)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", NAMES)
def test_signature(name: str, stage: str) -> None:
    assert _parameters(getattr(backends.get(name), stage)) == _parameters(getattr(Backend, stage))


@pytest.mark.parametrize("name", NAMES)
def test_name(name: str) -> None:
    assert backends.get(name).name == name


def test_a_missing_parameter_is_seen() -> None:
    def pool(rows, inverse, offsets, weights=None, *, combiner="mean", tile_len=None): ...

    assert _parameters(pool) != _parameters(Backend.pool)
