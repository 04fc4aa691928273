"""Tables of these tests are plain torch's, which compile nothing; RecIS's names are one of a kind in a process."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

_counted = itertools.count()


@pytest.fixture(autouse=True)
def _plain_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECIS_BACKEND", "torch")


@pytest.fixture
def fresh() -> Callable[[str], str]:
    """Names that no table of the process has had."""
    return lambda name: f"{name}_{next(_counted)}"
