"""Scenes that several tests look at, played once a world: starting processes costs more than what they then do."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from tests.exchange.ranks import Failure, run_ranks

WORLDS = [2, pytest.param(4, marks=pytest.mark.full)]

Scene = Callable[[int, int], Any]


def play(rank: int, world: int, scenes: tuple[Scene, ...]) -> dict[str, Any]:
    """What each scene returned here, or its Failure."""
    seen: dict[str, Any] = {}
    for scene in scenes:
        try:
            seen[scene.__name__] = scene(rank, world)
        except Exception as error:
            seen[scene.__name__] = Failure(type(error).__name__, str(error), traceback.format_exc())
    return seen


@cache
def _played(world: int, scenes: tuple[Scene, ...]) -> list[dict[str, Any]]:
    return run_ranks(world, play, scenes)


class Stage:
    """Scenes of one file: function(rank, world)."""

    def __init__(self, *scenes: Scene) -> None:
        self.scenes = scenes

    def of(self, world: int, scene: Scene) -> list[Any]:
        """What each rank returned.

        Raises:
          AssertionError: one of them raised.
        """
        results = [seen[scene.__name__] for seen in _played(world, self.scenes)]
        for rank, result in enumerate(results):
            assert not isinstance(result, Failure), f"rank {rank} of {world} raised:\n{result.trace}"
        return results
