"""Which row leaves a full tier: the one of lowest score.

Scores are float64, one a row, and travel with the row to the tiers below and back.

Sizes: R rows of the tier, U rows touched.
"""

from __future__ import annotations

import math
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from numbers import Real

import numpy as np


class Policy(ABC):
    """One tier's order of leaving. A custom policy subclasses this, is hashable, and gives the same scores for the same calls.

    scores: float64 [R], one a row of the tier, -inf where nothing was written; rows of lowest score leave first. A method
    writes the scores of its rows only. tick: calls of the table so far, this one included.

    Only the built-in "ttl" sends rows away while there is room.
    """

    name = "custom"
    moves_rows = True  # False: a full table raises TableFull

    @abstractmethod
    def touch(self, scores: np.ndarray, rows: np.ndarray, counts: np.ndarray, tick: int) -> None:
        """Rows int32 [U], distinct, were used, counts int32 [U] times each: write scores[rows]."""

    def enter(self, scores: np.ndarray, rows: np.ndarray, carried: np.ndarray, tick: int) -> None:
        """Rows int32 [U], distinct, came from below with scores carried, float64 [U], NaN for new ones: write scores[rows].

        Called before `touch`. By default rows keep the score that they carried, and new ones begin with -inf.
        """
        scores[rows] = np.where(np.isnan(carried), -math.inf, carried)


class Lru(Policy):
    """Least recently used."""

    name = "lru"

    def touch(self, scores: np.ndarray, rows: np.ndarray, counts: np.ndarray, tick: int) -> None:
        scores[rows] = tick


class Lfu(Policy):
    """Least frequently used, each use losing `decay` of its weight a call: Σ decay^(now - then).

    Scores are ln Σ decay^(-then), so that ageing rewrites no row. There is no counting without ageing: it keeps rows that were
    hot once.

    Raises:
      ValueError: decay is not between 0 and 1. TypeError: it is no number.
    """

    name = "lfu"

    def __init__(self, decay: float = 0.97) -> None:
        if not 0 < _number("decay", decay) < 1:
            raise ValueError(f"decay must be between 0 and 1, both left out; got {decay}.")
        self.decay = decay
        self._growth = -math.log(decay)

    def touch(self, scores: np.ndarray, rows: np.ndarray, counts: np.ndarray, tick: int) -> None:
        from recis_core.backends.tier_loops.aged_uses import add_uses  # as heavy as numba

        add_uses(scores, rows, counts, tick * self._growth)


class Ttl(Policy):
    """First the rows that came longest ago; those older than `seconds` leave even while there is room.

    clock: the time in seconds.

    Raises:
      ValueError: seconds are not positive. TypeError: they are no number.
    """

    name = "ttl"

    def __init__(self, seconds: float, clock: Callable[[], float] = time.time) -> None:
        if not _number("ttl's seconds", seconds) > 0:
            raise ValueError(f"ttl's seconds must be positive; got {seconds}.")
        self.seconds, self.clock = seconds, clock

    def enter(self, scores: np.ndarray, rows: np.ndarray, carried: np.ndarray, tick: int) -> None:
        scores[rows] = self.clock()

    def touch(self, scores: np.ndarray, rows: np.ndarray, counts: np.ndarray, tick: int) -> None:
        pass

    def expired(self, scores: np.ndarray) -> np.ndarray:
        """bool [R]: past their time."""
        return scores <= self.clock() - self.seconds


class Lookahead(Lfu):
    """Rows that a Prefetcher's next calls use leave last, the soonest used at the end. Others leave as by "lfu"; without a
    Prefetcher all do.

    Belady 1966, with a window.
    """

    name = "lookahead"


class NoPolicy(Policy):
    """Rows stay where they are; a full table raises TableFull."""

    name = "none"
    moves_rows = False

    def touch(self, scores: np.ndarray, rows: np.ndarray, counts: np.ndarray, tick: int) -> None:
        pass


def _number(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number; got {value!r}.")
    return float(value)


_KINDS: dict[str, Callable[..., Policy]] = {
    "lru": Lru,
    "lfu": Lfu,
    "ttl": Ttl,
    "lookahead": Lookahead,
    "none": NoPolicy,
}


def policy_of(policy: str | Policy) -> Policy:
    """A policy from "lru", "lfu", "lfu(.97)" (decay), "ttl(3600)" (seconds), "lookahead", "none", or itself.

    Raises:
      ValueError: the text names none, or its number is none it takes.
      TypeError: it is neither a text nor a Policy.
    """
    if isinstance(policy, Policy):
        return policy
    if not isinstance(policy, str):
        way = f" Make one: {policy.__name__}(…)." if isinstance(policy, type) and issubclass(policy, Policy) else ""
        raise TypeError(f"policy must be a Policy, or a text as 'lfu'; got {policy!r}.{way}")
    match = re.fullmatch(r"\s*(\w+)\s*(?:\(\s*([^()]+?)\s*\))?\s*", policy)
    if match is None or match[1] not in _KINDS:
        raise ValueError(f"policy must be one of lru, lfu(decay), ttl(seconds), lookahead, none; got {policy!r}.")
    if match[1] == "ttl" and match[2] is None:
        raise ValueError("policy ttl needs its seconds, as in ttl(3600).")
    if match[2] is not None and match[1] not in ("lfu", "ttl", "lookahead"):
        raise ValueError(f"policy {match[1]} takes no number; got {policy!r}.")
    return _made(policy, _KINDS[match[1]], match[2])


def _made(policy: str, kind: Callable[..., Policy], number: str | None) -> Policy:
    try:
        arguments = [] if number is None else [float(number)]
    except ValueError:
        raise ValueError(f"policy {policy!r} must have a number in its brackets, as lfu(.97) or ttl(3600).") from None
    try:
        return kind(*arguments)
    except ValueError as error:
        raise ValueError(f"policy {policy!r}: {error}") from error
