"""Policies: which row leaves a full tier, by its score; the lowest score leaves first.

Scores are float64, one for each row, and move with the row to lower tiers and back.

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
    """The order in which rows leave a tier. A custom policy subclasses this, is hashable and deterministic.

    scores: float64 [R], one for each row of the tier, -inf before the first write; rows of lowest score leave first. A
    method writes the scores of its rows only. tick: calls of the table so far, with this one.

    Only the built-in "ttl" moves rows out of a tier that has room.
    """

    name = "custom"
    moves_rows = True  # False: a full table raises TableFull

    @abstractmethod
    def touch(self, scores: np.ndarray, rows: np.ndarray, counts: np.ndarray, tick: int) -> None:
        """Called when rows int32 [U], distinct, were used, counts int32 [U] times each: write scores[rows]."""

    def enter(self, scores: np.ndarray, rows: np.ndarray, carried: np.ndarray, tick: int) -> None:
        """Called when rows int32 [U], distinct, entered the tier, before `touch`: write scores[rows].

        carried: float64 [U], scores from the lower tier, NaN for new rows. By default a row keeps its score, and a new row
        gets -inf.
        """
        scores[rows] = np.where(np.isnan(carried), -math.inf, carried)


class Lru(Policy):
    """The least recently used row leaves first."""

    name = "lru"

    def touch(self, scores: np.ndarray, rows: np.ndarray, counts: np.ndarray, tick: int) -> None:
        scores[rows] = tick


class Lfu(Policy):
    """The least frequently used row leaves first. A use's weight is multiplied by `decay` at each call: Σ decay^(now - then).

    Scores are ln Σ decay^(-then), so that ageing rewrites no row. Plain counts are not offered: they keep rows that were
    used much long ago.

    Raises:
      ValueError: decay is not between 0 and 1. TypeError: decay is no number.
    """

    name = "lfu"

    def __init__(self, decay: float = 0.97) -> None:
        if not 0 < _number("decay", decay) < 1:
            raise ValueError(f"decay must be between 0 and 1, both left out; got {decay}.")
        self.decay = decay
        self._growth = -math.log(decay)

    def touch(self, scores: np.ndarray, rows: np.ndarray, counts: np.ndarray, tick: int) -> None:
        from recis_core.backends.tier_loops.aged_uses import add_uses  # loads numba

        add_uses(scores, rows, counts, tick * self._growth)


class Ttl(Policy):
    """The row that entered longest ago leaves first; rows older than `seconds` leave even if there is room.

    clock: returns the time in seconds.

    Raises:
      ValueError: seconds is not positive. TypeError: seconds is no number.
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
        """bool [R]: rows older than `seconds`."""
        return scores <= self.clock() - self.seconds


class Lookahead(Lfu):
    """Rows that a Prefetcher's next calls use leave last, the row used soonest at the very end. Other rows leave as by "lfu";
    without a Prefetcher all rows do.

    Belady 1966, with a window.
    """

    name = "lookahead"


class NoPolicy(Policy):
    """Rows never leave; a full table raises TableFull."""

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
    """The policy of "lru", "lfu", "lfu(.97)" (decay), "ttl(3600)" (seconds), "lookahead" or "none"; a Policy is returned.

    Raises:
      ValueError: the text names no policy, or its number is invalid.
      TypeError: policy is neither a text nor a Policy.
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
