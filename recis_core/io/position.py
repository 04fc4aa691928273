"""Where a worker is in an epoch, and what all workers have done together.

An epoch has one order of rows. Of the rows that are not done, each worker has a share; a share may be cut again, among a
DataLoader's workers.

    done  ####······················      rows done before shares were cut, known to all
    cut       [   0   |   1   |   2   ]   of the rest, among 3 workers
    rows              ###····             done of share 1 since

Sizes: R rows of an epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from recis_core.io.intervals import Intervals

VERSION = 2


class Cut(NamedTuple):
    """Share `worker` of `workers`, whose first `rows` rows are done."""

    worker: int
    workers: int
    rows: int = 0

    @property
    def who(self) -> tuple[int, int]:
        return self.worker, self.workers


Who = tuple[tuple[int, int], ...]  # (worker, workers) of each cut, outer to inner
Share = Callable[[Intervals, int, int], Intervals]  # (rows, worker, workers) → the worker's rows


@dataclass(frozen=True)
class Position:
    """ended: the epoch's end was met; the next pass is the next epoch."""

    epoch: int = 0
    done: Intervals = field(default_factory=Intervals)
    cuts: tuple[Cut, ...] = ()
    ended: bool = False

    @property
    def who(self) -> Who:
        return tuple(cut.who for cut in self.cuts)

    def left(self, rows: int, share: Share) -> Intervals:
        """The rows of this share that are not done, of an epoch of `rows` rows."""
        left = self.done.rest_of(rows)
        for cut in self.cuts:
            mine = share(left, cut.worker, cut.workers)
            left = mine.part(cut.rows, mine.count)
        return left

    def finished(self, rows: int, share: Share) -> Intervals:
        """The rows of this share that are done since shares were cut, and those of `done`."""
        left, done = self.done.rest_of(rows), self.done
        for cut in self.cuts:
            mine = share(left, cut.worker, cut.workers)
            done, left = done.union(mine.part(0, cut.rows)), mine.part(cut.rows, mine.count)
        return done

    def forward(self, rows: int) -> Position:
        """After `rows` more rows of this share."""
        last = self.cuts[-1]
        return replace(self, cuts=(*self.cuts[:-1], last._replace(rows=last.rows + rows)))

    def cut_for(self, who: Who) -> Position:
        """This position, cut further, down to one worker."""
        return replace(self, cuts=(*self.cuts, *(Cut(*each) for each in who[len(self.cuts) :])))

    def to_dict(self) -> dict[str, Any]:
        cuts = [list(cut) for cut in self.cuts]
        return {
            "version": VERSION,
            "epoch": self.epoch,
            "ended": self.ended,
            "done": self.done.listed(),
            "cuts": cuts,
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Position:
        """Also of states before version 2: a worker's rows from the start of an epoch."""
        if "version" not in state:
            return cls(state["epoch"], cuts=(Cut(state["worker_idx"], state["worker_num"], state["rows"]),))
        if state["version"] != VERSION:
            raise ValueError(
                f"a position of version {state['version']} cannot be read; this release reads version {VERSION}."
            )
        return cls(
            state["epoch"], Intervals.of(state["done"]), tuple(Cut(*cut) for cut in state["cuts"]), state["ended"]
        )


def resolved(positions: Sequence[Position], who: Who, rows: int, share: Share) -> Position:
    """Where the worker `who` goes on: at its own position among these, at that of a share it is part of, or else at its
    share of what all of them have left.

    Raises:
      ValueError: positions of some workers are missing, or are of different epochs.
    """
    mine = next((p for p in positions if p.who == who), None)
    if mine is None and len(positions) == 1 and positions[0].who == who[: len(positions[0].cuts)]:
        mine = positions[0]
    if mine is None:
        return merged(positions, rows, share).cut_for(who)
    others_go_on = mine.ended and any(p.epoch == mine.epoch and not p.ended for p in positions)
    return replace(mine, ended=mine.ended and not others_go_on).cut_for(who)


def merged(positions: Sequence[Position], rows: int, share: Share) -> Position:
    """What all workers have done together, without shares.

    Raises:
      ValueError: positions of some workers are missing, or are of different epochs.
    """
    positions = _one_epoch(list(dict.fromkeys(positions)), rows, share)
    _require_all([position.who for position in positions])
    first, *others = [position.finished(rows, share) for position in positions]
    ended = all(position.ended for position in positions)
    return Position(positions[0].epoch, first.union(*others), (), ended)


def _one_epoch(positions: list[Position], rows: int, share: Share) -> list[Position]:
    """A worker that has not begun an epoch stands at the end of the one before."""
    first = min(position.epoch for position in positions)
    found = [_before(position, rows, share) if position.epoch > first else position for position in positions]
    wrong = next((position for position in found if position.epoch != first), None)
    if wrong is not None:
        raise ValueError(
            f"positions must be of one epoch; got {first}, and {wrong.epoch} of worker {_named(wrong.who)}, which has "
            "begun it. Save all workers' positions at the same step."
        )
    return found


def _before(position: Position, rows: int, share: Share) -> Position:
    if position.done.runs or any(cut.rows for cut in position.cuts):
        return position
    whole = tuple(Cut(*each) for each in position.who)
    everything = Position(position.epoch - 1, cuts=whole).left(rows, share).count
    return replace(
        position, epoch=position.epoch - 1, ended=True, cuts=(*whole[:-1], whole[-1]._replace(rows=everything))
    )


def _named(who: Who) -> str:
    return " / ".join(f"{worker} of {workers}" for worker, workers in who) or "0 of 1"


def _require_all(whos: list[Who], above: Who = ()) -> None:
    """Each share and each share of a share must be there once."""
    if whos == [()]:
        return
    heads = sorted({who[0] for who in whos if who})
    workers = heads[0][1] if heads else 1
    missing = sorted({(worker, workers) for worker in range(workers)} - set(heads))
    if missing or () in whos or any(head[1] != workers for head in heads):
        missed = ", ".join(_named((*above, each)) for each in missing)
        raise ValueError(
            "worker_num differs from that of the position, so load_state_dict needs a list with the position of every worker"
            + (
                f"; worker {missed} is missing, whose rows would be lost or come twice."
                if missed
                else "; these are of different numbers of workers, or two of one worker."
            )
        )
    for head in heads:
        _require_all([who[1:] for who in whos if who[0] == head], (*above, head))


def states_of(state: Any) -> list[dict[str, Any]]:
    """The positions in a state: one, a list of them, or what torchdata's StatefulDataLoader saves of its workers.

    Raises:
      TypeError: the state is nothing of these. ValueError: a StatefulDataLoader saved rarer than each step.
    """
    if isinstance(state, list | tuple):
        return [each for one in state for each in states_of(one)]
    if not isinstance(state, dict):
        raise TypeError(
            f"a position is the dict that state_dict() gives, or a list of them; got {type(state).__name__}."
        )
    if "_snapshot" in state:
        return _of_loader(state)
    if "dataset_state" in state and "epoch" not in state:
        return [state["dataset_state"]]
    if "epoch" not in state:
        raise ValueError(
            f"a position has an epoch, as state_dict() gives it; got a dict of {', '.join(map(str, state))}."
        )
    return [state]


def _of_loader(state: dict[str, Any]) -> list[dict[str, Any]]:
    since = state.get("_steps_since_snapshot", 0)
    if since:
        raise ValueError(
            f"the StatefulDataLoader's state is {since} steps old: the rows of these would come twice. Save with "
            "snapshot_every_n_steps=1, or load it into a StatefulDataLoader of as many workers."
        )
    return [worker["dataset_state"] for worker in state["_snapshot"]["_worker_snapshots"].values()]


def require_equal(mine: dict[str, Any], state: dict[str, Any]) -> None:
    """Raises ValueError where a state names other data, or another order of rows."""
    for name, value in mine.items():
        if state.get(name) != value:
            raise ValueError(f"{name} must be {state.get(name)!r}, as when the position was saved; got {value!r}.")
