"""Saves and restores a training run: what, when, where to, and how many of them stay."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from recis_core.backends.errors import RecisError
from recis_core.plain_torch import in_plain_torch
from recis_core.serialize.checkpoint.background import Background
from recis_core.serialize.checkpoint.changes import Bases, Changes
from recis_core.serialize.checkpoint.contents import Contents
from recis_core.serialize.checkpoint.environment import environment_here
from recis_core.serialize.checkpoint.policies import (
    DeltaPolicy,
    EverySteps,
    KeepLast,
    KeepPolicy,
    Moment,
    SavePolicy,
    best_first,
    best_of,
)
from recis_core.serialize.checkpoint.pruning import metrics_in, prune
from recis_core.serialize.checkpoint.ranks import Ranks
from recis_core.serialize.checkpoint.restoring import Restored, Restoring, require_all
from recis_core.serialize.checkpoint.selection import ALL, CheckpointSource, Chosen, choose
from recis_core.serialize.checkpoint.shot import Shot, take_shot
from recis_core.serialize.checkpoint.table_files import FILE_BYTES
from recis_core.serialize.checkpoint.table_shot import cut_by_columns, merged
from recis_core.serialize.manifest import Head, checked_step
from recis_core.serialize.places import manifest_of, place_of_step, steps_in
from recis_core.serialize.shared_state import commit_together
from recis_core.serialize.store_path import Place, place_of
from recis_core.serialize.table_entry import TableEntry

Later = Callable[[Callable[[], None]], None]
UNDER_WAY = 2  # saves that may wait or be written while training goes on; each holds a copy of what it saves


class CheckpointManager:
    """Checkpoints of one run in one directory.

        manager = CheckpointManager("ckpt", save=EverySteps(1000) | AtEnd(), keep=KeepLast(3) | KeepBest("auc"))
        manager.register(model=model, optimizer=optimizer, data=reader)
        restored = manager.restore()                        # None where there is nothing yet
        …
        if manager.due(step):
            manager.save(step, {"auc": auc})
        …
        manager.close()

    On several ranks every method but `latest`, `steps` and `best` is collective, and the directory is one that all see.

    Args:
      directory: a path, or a URL that fsspec opens. save: when `due` says yes; None: never. keep: which stay; None: all.
      asynchronous: whether `save` returns when all is copied in memory, and a thread writes. A model with a table in tiers
        is written before `save` returns, for its rows are not copied.
      delta: None: each checkpoint is full; else see DeltaPolicy.
      pg: the process group of the ranks; None: the default one. file_bytes: of a table's file at most.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | Place,
        save: SavePolicy | None = EverySteps(1000),  # noqa: B008, a frozen value
        keep: KeepPolicy | None = KeepLast(5),  # noqa: B008
        *,
        asynchronous: bool = True,
        delta: DeltaPolicy | None = None,
        pg: Any = None,
        file_bytes: int = FILE_BYTES,
    ) -> None:
        for name, given, kind in (
            ("save", save, SavePolicy),
            ("keep", keep, KeepPolicy),
            ("delta", delta, DeltaPolicy),
        ):
            if given is not None and not isinstance(given, kind):
                raise TypeError(f"{name} must be a {kind.__name__}, or None; got {given!r:.200}.")
        self.directory: Place = place_of(directory)
        self.save_policy, self.keep, self.asynchronous, self.delta = save, keep, asynchronous, delta
        self._file_bytes, self._pg = file_bytes, pg
        self._ranks: Ranks | None = None
        self._contents: Contents | None = None
        self._work, self._bases = Background(UNDER_WAY), Bases(self.directory)
        self._changes: Changes | None = None
        self._last_step, self._last_time, self._closed = 0, time.monotonic(), False

    def register(
        self,
        *,
        model: nn.Module,
        optimizer: Any = None,
        data: Any = None,
        features: Any = None,
        schedulers: Mapping[str, Any] | None = None,
        **extra: Any,
    ) -> None:
        """Say, once, what is saved and restored.

        Args:
          model: its tables, parameters and persistent buffers; wrapped or not. optimizer: of `join`, a sparse or a dense
            one. data: this rank's reader. features: a FeatureEngine. schedulers: by name.
          extra: objects with state_dict and load_state_dict, whose states are equal on all ranks.

        Raises:
          TypeError: something has no state_dict. RecisError: it was called before.
        """
        if self._contents is not None:
            raise RecisError("register was called already; a CheckpointManager is of one run.")
        contents = Contents(model, optimizer, data, features, dict(schedulers or {}), extra)
        self._ranks, self._contents = Ranks(self._pg), contents
        if self.delta is not None:
            self._changes = Changes(self.delta, {table.physical: None for table in contents.tables.values()})

    @property
    def contents(self) -> Contents:
        """Raises RecisError before `register`, and after `close`."""
        if self._contents is None or self._closed:
            raise RecisError("this CheckpointManager is closed." if self._closed else "register(model=…) comes first.")
        return self._contents

    @property
    def _them(self) -> Ranks:
        if self._ranks is None:
            raise RecisError("register(model=…) comes first.")
        return self._ranks

    # Saving

    def due(self, step: int, *, ending: bool = False) -> bool:
        """Whether the save policy wants a checkpoint now, after `step`; equal on all ranks.

        ending: whether training ends with this step; see AtEnd.
        """
        if self.save_policy is None:
            return False
        minutes = (time.monotonic() - self._last_time) / 60
        due = self.save_policy.due(Moment(step, self._last_step, minutes, ending))
        return self._them.any(due and self._them.rank == 0) if self.save_policy.reads_clock else due

    @in_plain_torch
    def save(self, step: int, metrics: Mapping[str, float] | None = None) -> Place:
        """Save a checkpoint of `step`, in place of a former one of that step. Returns where it will be.

        Call between steps. Returns when all is copied and a thread writes it, or, without `asynchronous`, when it is durable.

        Args:
          metrics: numbers by name, for KeepBest and `best`.

        Raises:
          what an earlier save failed by, first; then nothing is saved, and the next call saves.
          TypeError, ValueError: something has no safe form. OSError, StorageInUse: nothing was saved; the last checkpoint is
            whole. ExchangeMismatch: another rank failed.
        """
        contents, ranks = self.contents, self._them
        self.raise_failure()
        with ranks.failing_together():
            checked_step(step)
            numbers = {name: float(value) for name, value in (metrics or {}).items()}
        with ranks.failing_together():
            shot, base = self._shot(step, numbers)
        columns = cut_by_columns(contents.tables)
        self._last_step, self._last_time = step, time.monotonic()
        if self.asynchronous and shot.in_memory:
            self._work.submit(lambda: self._write(shot, columns, base))
        else:
            self._work.wait()
            self._write_now(shot, columns, base)
        return place_of_step(self.directory, step)

    def _shot(self, step: int, metrics: Mapping[str, float]) -> tuple[Shot, int | None]:
        """What to save, and the step of the base if it is a delta."""
        ranks = self._them
        try:
            changed, base = (None, None) if self._changes is None else self._changes.take(step, ranks.any)
            return take_shot(self.contents, step, metrics, ranks.rank, ranks.world, changed, self.asynchronous), base
        except BaseException:
            self._begin_anew()  # the ids that changed were taken
            raise

    def _write_now(self, shot: Shot, columns: set[str], base: int | None) -> None:
        try:
            self._write(shot, columns, base, self._work.submit)
        except BaseException:
            self._begin_anew()
            raise

    def _begin_anew(self) -> None:
        if self._changes is not None:
            self._changes.begin_anew()

    def _write(self, shot: Shot, columns: set[str], base: int | None, later: Later = lambda remove: remove()) -> None:
        """Write, commit, and remove what need not stay; later: see prune."""
        ranks = self._them

        def head(tables: list[dict[str, TableEntry]]) -> Head:
            follows = None if base is None else self._bases.of(base)
            return Head(follows, environment=environment_here(), tables=merged(tables, columns))

        digest = commit_together(
            self.directory, shot.step, lambda place: shot.write(place, self._file_bytes), head, ranks.back
        )
        self._bases.committed(shot.step, digest)
        if self.keep is not None and ranks.rank == 0:
            prune(self.directory, self.keep, later)

    def raise_failure(self) -> None:
        """Raise what a save in the background failed by, once, on all ranks; call it after each step.

        On several ranks it communicates.
        """
        if self._them.any(self._work.failed):
            self._work.wait()  # then the other ranks have failed, too
            self._begin_anew()
            if (error := self._work.take_failure()) is not None:
                raise error

    def wait(self) -> None:
        """Until all saves are durable. Raises what one failed by."""
        self._work.wait()
        self.raise_failure()

    def close(self) -> None:
        """wait(), and end. Idempotent."""
        if self._closed or self._contents is None:
            return
        try:
            self.wait()
        finally:
            self._closed = True
            if self._changes is not None:
                self._changes.close()

    # What is there

    def steps(self) -> list[int]:
        """Steps of all durable checkpoints, ascending."""
        return steps_in(self.directory)

    def latest(self) -> int | None:
        """The last of `steps`."""
        return self.steps()[-1] if self.steps() else None

    def best(self, metric: str) -> int | None:
        """The step of the best checkpoint by a metric that `save` was given; see KeepBest for "max" and "min"."""
        manifests = {step: manifest_of(self.directory, step) for step in self.steps()}
        found = best_first(metric, best_of(self.keep, metric), metrics_in(self.directory, manifests))
        return found[0] if found else None

    # Restoring

    @in_plain_torch
    def restore(
        self,
        step: int | None = None,
        *,
        load: Sequence[str] = ALL,
        exclude: Sequence[str] = (),
        rename: Mapping[str, str] | None = None,
        sources: Sequence[Any] = (),
        slots: bool = True,
    ) -> Restored | None:
        """Put a checkpoint in the place of what is registered: all of it, or what is chosen; or nothing, if it raises.

        Args:
          step: None: the latest.
          load, exclude, rename: as CheckpointSource has them; of this directory's checkpoint, and of each source that is a
            path. sources: paths, or CheckpointSources; of a thing that several have, the last one's is taken.
          slots: whether rows bring their optimizer's slots and unapplied gradients; else these begin anew.

        Returns:
          None if step is None, the directory holds nothing, and there are no sources.

        Raises:
          FileNotFoundError: there is no such checkpoint. CorruptCheckpoint: one is damaged.
          StateMismatch: something does not fit; or, where all is to be loaded, something is missing or left over.
        """
        contents, ranks = self.contents, self._them
        self.wait()
        with ranks.failing_together():
            chosen_by = CheckpointSource(None, load, exclude, rename or {})
            mine = self.latest() if step is None else checked_step(step)
        step = ranks.first(mine)
        if step is None and not sources:
            return None
        with ranks.failing_together():
            own = [] if step is None else [_like(chosen_by, self._place_of(step))]
            all_sources = own + [
                each if isinstance(each, CheckpointSource) else _like(chosen_by, each) for each in sources
            ]
            chosen, missing = self._choose(all_sources)
            restoring = Restoring(contents, chosen.things, ranks.rank, ranks.world, slots=slots)
        self._commit(restoring)
        self._begin_anew()
        self._last_step, self._last_time = step or 0, time.monotonic()
        return Restored(step or 0, missing, restoring.fresh, chosen.ignored + restoring.ignored)

    def _place_of(self, step: int) -> Place:
        place = place_of_step(self.directory, checked_step(step))
        if not place.exists():
            raise FileNotFoundError(f"{place} is not there; {self.directory} has steps {self.steps()[-20:]}.")
        return place

    def _choose(self, sources: list[CheckpointSource]) -> tuple[Chosen, list[str]]:
        names = self.contents.names()
        chosen = choose(sources, names)
        missing = [name for name in names if name not in chosen.things]
        if len(sources) == 1 and sources[0].everything:
            require_all(missing, chosen.ignored)
        return chosen, missing

    def _commit(self, restoring: Restoring) -> None:
        put_back = None
        try:
            with self._them.failing_together():
                put_back = restoring.load_objects()
        except BaseException:
            if put_back is not None:
                put_back()
            raise
        restoring.commit()


def _like(source: CheckpointSource, path: Any) -> CheckpointSource:
    return CheckpointSource(path, source.load, source.exclude, source.rename)
