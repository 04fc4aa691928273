"""Which rows changed since the last save, and whether the next checkpoint may be a delta.

full ◀── delta ◀── delta … full ◀── delta        each delta follows the save before it
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from torch import Tensor

from recis_core.backends.errors import CorruptCheckpoint, RecisError
from recis_core.serialize.checkpoint.policies import DeltaPolicy
from recis_core.serialize.manifest import Base
from recis_core.serialize.places import manifest_of
from recis_core.serialize.store_path import Place
from recis_core.table.changed_ids import ChangedIds
from recis_core.table.table import Table

Changed = Mapping[Table, Mapping[int, Tensor]]  # ids that may have changed, by logical table


class Changes:
    """Watches storages from now on. The first save is full, and each after a failure, a load, or another optimizer's slots."""

    def __init__(self, policy: DeltaPolicy, tables: Iterable[Table]) -> None:
        self._policy = policy
        self._watched = {table: ChangedIds(table) for table in tables}
        self._chain: list[int] = []  # steps of the saves since the last full one, with that
        self._slots = self._slots_now()

    def _slots_now(self) -> list[list[str]]:
        return [[slot.name for slot in table.slot_specs] for table in self._watched]

    def take(self, step: int, anywhere: Callable[[bool], bool]) -> tuple[Changed | None, int | None]:
        """(ids that changed, step of the base) for a save of `step`; (None, None): it must be full.

        anywhere: whether something is so on any rank.
        """
        taken = {table: watched.take() for table, watched in self._watched.items()}
        known = {table: ids for table, ids in taken.items() if ids is not None}
        slots = self._slots_now()
        follows = bool(self._chain) and step > self._chain[-1] and len(self._chain) < self._policy.every_full
        must = not follows or slots != self._slots or len(known) < len(taken)
        self._slots = slots
        if anywhere(must):
            self._chain = [step]
            return None, None
        base = self._chain[-1]
        self._chain.append(step)
        return known, base

    def begin_anew(self) -> None:
        """The next save is full."""
        self._chain = []

    def close(self) -> None:
        for watched in self._watched.values():
            watched.close()
        self._watched, self._chain = {}, []


class Bases:
    """Hashes of the manifests that this process has committed, for the deltas that follow them. On the first rank."""

    def __init__(self, directory: Place) -> None:
        self._directory, self._hashes = directory, dict[int, str]()

    def committed(self, step: int, digest: str) -> None:
        self._hashes = {step: digest}

    def of(self, step: int) -> Base:
        """Raises RecisError if the save of that step failed, or its checkpoint has gone since."""
        wanted, fault = self._hashes.get(step), None
        try:
            found = None if wanted is None else manifest_of(self._directory, step).xxh3_128
        except CorruptCheckpoint as error:
            found, fault = None, error
        if wanted is None or found != wanted:
            raise RecisError(
                f"a delta holds what changed since step {step}, whose checkpoint {self._directory} does not have (its save "
                "failed, or it was removed, or cannot be read). The next save is a full one."
            ) from fault
        return Base(step, wanted)
