"""When to save and what to keep, as values that compose by |.

save=EverySteps(1000) | EveryMinutes(10) | AtEnd()      saves whenever one of them says so
keep=KeepLast(3) | KeepEvery(10_000) | KeepBest("auc", 2)   keeps what one of them keeps
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Metrics = Mapping[int, Mapping[str, float]]  # of checkpoints, by step


@dataclass(frozen=True)
class Moment:
    """step: just done. last: of the last save, or of the start. minutes: since then. ending: whether training ends now."""

    step: int
    last: int
    minutes: float
    ending: bool = False


class SavePolicy:
    """Says when to save."""

    reads_clock = False

    def due(self, now: Moment) -> bool:
        raise NotImplementedError

    def __or__(self, other: SavePolicy) -> SavePolicy:
        if not isinstance(other, SavePolicy):
            raise TypeError(f"a save policy composes with another one; got {other!r:.200}.")
        return AnyOf((*_members(self), *_members(other)))


@dataclass(frozen=True)
class AnyOf(SavePolicy):
    members: tuple[SavePolicy, ...]

    @property
    def reads_clock(self) -> bool:  # type: ignore[override]
        return any(member.reads_clock for member in self.members)

    def due(self, now: Moment) -> bool:
        return any(member.due(now) for member in self.members)


def _members(policy: SavePolicy) -> tuple[SavePolicy, ...]:
    return policy.members if isinstance(policy, AnyOf) else (policy,)


@dataclass(frozen=True)
class EverySteps(SavePolicy):
    """At steps that `steps` divides."""

    steps: int

    def __post_init__(self) -> None:
        _check_count(self.steps, "EverySteps", "steps")

    def due(self, now: Moment) -> bool:
        return now.step % self.steps == 0 and now.step > now.last


@dataclass(frozen=True)
class EveryMinutes(SavePolicy):
    """After the step at which so many minutes have passed since the last save; the first rank's clock counts."""

    minutes: float

    reads_clock = True

    def __post_init__(self) -> None:
        if (
            isinstance(self.minutes, bool)
            or not isinstance(self.minutes, int | float)
            or not 0 < self.minutes < math.inf
        ):
            raise ValueError(f"EveryMinutes wants a positive number of minutes; got {self.minutes!r}.")

    def due(self, now: Moment) -> bool:
        return now.minutes >= self.minutes and now.step > now.last


@dataclass(frozen=True)
class AtEnd(SavePolicy):
    """When training ends, unless its last step is saved."""

    def due(self, now: Moment) -> bool:
        return now.ending and now.step > now.last


class KeepPolicy:
    """Says which checkpoints stay."""

    def kept(self, steps: Sequence[int], metrics: Metrics) -> set[int]:
        """steps: of all checkpoints, ascending."""
        raise NotImplementedError

    def __or__(self, other: KeepPolicy) -> KeepPolicy:
        if not isinstance(other, KeepPolicy):
            raise TypeError(f"a keep policy composes with another one; got {other!r:.200}.")
        return AllOf((*_kept_by(self), *_kept_by(other)))


@dataclass(frozen=True)
class AllOf(KeepPolicy):
    members: tuple[KeepPolicy, ...]

    def kept(self, steps: Sequence[int], metrics: Metrics) -> set[int]:
        return set().union(*(member.kept(steps, metrics) for member in self.members))


def _kept_by(policy: KeepPolicy) -> tuple[KeepPolicy, ...]:
    return policy.members if isinstance(policy, AllOf) else (policy,)


@dataclass(frozen=True)
class KeepLast(KeepPolicy):
    """The `count` newest."""

    count: int

    def __post_init__(self) -> None:
        _check_count(self.count, "KeepLast", "checkpoints")

    def kept(self, steps: Sequence[int], metrics: Metrics) -> set[int]:
        return set(steps[-self.count :])


@dataclass(frozen=True)
class KeepEvery(KeepPolicy):
    """Those of steps that `steps` divides."""

    steps: int

    def __post_init__(self) -> None:
        _check_count(self.steps, "KeepEvery", "steps")

    def kept(self, steps: Sequence[int], metrics: Metrics) -> set[int]:
        return {step for step in steps if step % self.steps == 0}


@dataclass(frozen=True)
class KeepBest(KeepPolicy):
    """The `count` best by a metric that `save` was given; of equal ones the newer. mode: "max", or "min" for losses."""

    metric: str
    count: int = 1
    mode: str = "max"

    def __post_init__(self) -> None:
        _check_count(self.count, "KeepBest", "checkpoints")
        if self.mode not in ("max", "min"):
            raise ValueError(f'KeepBest wants mode "max" or "min"; got {self.mode!r}.')

    def kept(self, steps: Sequence[int], metrics: Metrics) -> set[int]:
        return set(best_first(self.metric, self.mode, metrics)[: self.count])


def best_first(metric: str, mode: str, metrics: Metrics) -> list[int]:
    """Steps by a metric, the best first; those without it, or with nan, are left out."""
    sign = -1.0 if mode == "max" else 1.0
    known = {step: values[metric] for step, values in metrics.items() if not math.isnan(values.get(metric, math.nan))}
    return sorted(known, key=lambda step: (sign * known[step], -step))


def best_of(policy: KeepPolicy | None, metric: str) -> str:
    """The mode in which a policy reads a metric; "max" if none does."""
    members = _kept_by(policy) if policy is not None else ()
    return next((m.mode for m in members if isinstance(m, KeepBest) and m.metric == metric), "max")


@dataclass(frozen=True)
class DeltaPolicy:
    """Deltas between full checkpoints. every_full: every so many-th one is full, so that a chain has as many at most."""

    every_full: int = 10

    def __post_init__(self) -> None:
        _check_count(self.every_full, "DeltaPolicy", "checkpoints")


def _check_count(number: object, who: str, what: str) -> None:
    if type(number) is not int or number < 1:
        raise ValueError(f"{who} wants a number of {what}, at least 1; got {number!r}.")
