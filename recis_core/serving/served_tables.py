"""What a RowStore serves: tables as of one version, and the changes of that version not yet written into them.

Sizes: N ids, U unique ids, D dim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from recis_core.backends.errors import PacketError
from recis_core.serving.served_table import ROWS_AT_ONCE, ServedTable
from recis_core.serving.waiting_version import Share

MakeTable = Callable[[str, int, int], ServedTable]  # name, dim, rows


@dataclass(frozen=True)
class Change:
    """What a version changes in one table, readable before it is written there."""

    ids: Tensor  # int64 [n], as they came
    rows: Tensor  # float32 [n, D]
    order: Tensor  # int64 [n], by which ids ascend
    ascending: Tensor  # int64 [n]
    erased: Tensor  # int64, ascending

    def lies_over(self, base: ServedTable, ids: Tensor) -> Tensor:
        """Rows float32 [U, D] of distinct ids, as they will be once the change is written."""
        numbers = base.find(ids)
        numbers[torch.isin(ids, self.erased)] = -1
        rows = base.gather(numbers, ids)
        at, here = self._find(ids)
        rows[here] = self.rows[self.order[at[here]]]
        return rows

    def _find(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """(places in `ascending`, whether the ids are there)."""
        at = torch.searchsorted(self.ascending, ids).clamp(max=len(self.ascending) - 1)
        return at, self.ascending[at] == ids if len(self.ascending) else torch.zeros_like(ids, dtype=torch.bool)

    def writes(self, ids: Tensor) -> Tensor:
        """Bool [U]: which of these ids get a row."""
        return self._find(ids)[1]

    def steps(self, base: ServedTable) -> Iterator[Callable[[], None]]:
        """Calls that together write the change; they may be repeated, all of them, after a failure."""
        yield partial(base.erase, self.erased)
        for ids, rows in zip(self.ids.split(ROWS_AT_ONCE), self.rows.split(ROWS_AT_ONCE), strict=True):
            yield partial(base.write, ids, rows)


@dataclass(frozen=True)
class ServedTables:
    """Tables as of `position`. A new one takes the place of an old one by one assignment.

    changes: of the version at `position`, so far as they are not in `tables`.
    sent: bytes that came of it all.
    """

    tables: Mapping[str, ServedTable] = field(default_factory=dict)
    position: tuple[bytes, int] = (b"", 0)
    sent: int = 0
    changes: Mapping[str, Change] = field(default_factory=dict)

    @property
    def dims(self) -> dict[str, int]:
        return {name: table.dim for name, table in self.tables.items()}

    @property
    def rows(self) -> int:
        return sum(len(table) for table in self.tables.values())

    def read(self, name: str, ids: Tensor) -> Tensor:
        """Float32 [N, D]."""
        if name not in self.changes:
            return self.tables[name].read(ids)
        distinct, inverse = ids.unique(return_inverse=True)
        return self.changes[name].lies_over(self.tables[name], distinct)[inverse]

    def ids(self, name: str) -> Tensor:
        """All ids of a table, ascending."""
        ids = self.tables[name].ids()
        if name not in self.changes:
            return ids
        change = self.changes[name]
        return torch.cat([ids[~torch.isin(ids, change.erased)], change.ids]).unique()


def built(shares: Mapping[str, Share], make: MakeTable) -> dict[str, ServedTable]:
    """Tables that hold what packets say.

    Raises:
      PacketError: a row cannot be decoded, or an id comes twice.
    """
    tables: dict[str, ServedTable] = {}
    for name, share in shares.items():
        tables[name] = table = make(name, share.dim, share.rows)
        for ids, rows in share.parts():
            table.write(ids, rows)
        if len(table) != share.rows:
            raise PacketError(
                f"ids of table {name!r:.80} must be distinct within a version; {share.rows - len(table)} come twice."
            )
    return tables


def changes_of(shares: Mapping[str, Share]) -> dict[str, Change]:
    """What a version changes, read and checked but not written.

    Raises:
      PacketError: as built, or an id is both written and erased.
    """
    return {name: _change(name, share) for name, share in shares.items()}


def _change(name: str, share: Share) -> Change:
    ids, rows, at = torch.empty(share.rows, dtype=torch.int64), torch.empty(share.rows, share.dim), 0
    for some_ids, some_rows in share.parts():
        ids[at : at + len(some_ids)], rows[at : at + len(some_ids)] = some_ids, some_rows
        at += len(some_ids)
    ascending, order = ids.sort()
    _check_distinct(name, ascending)
    change = Change(ids, rows, order, ascending, share.erased())
    if _repeated(change.erased) or bool(change.writes(change.erased).any()):
        raise PacketError(f"ids of table {name!r:.80} are erased twice in a version, or erased and written.")
    return change


def _check_distinct(name: str, ascending: Tensor) -> None:
    if twice := _repeated(ascending):
        raise PacketError(f"ids of table {name!r:.80} must be distinct within a version; {twice} come twice.")


def _repeated(ascending: Tensor) -> int:
    return int((ascending[1:] == ascending[:-1]).sum())
