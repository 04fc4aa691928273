"""A table's verbs beside training: len, in, lookup, erase, items, evict and clear.

A verb reads the rows it returns, never the whole table. With several ranks `len`, `in`, `lookup` and `erase` act on the
logical table and are collective: every rank calls, with its own ids or none. If ranks are in different calls, they raise
ExchangeMismatch. `items` gives the rows of this rank.

Sizes: N ids, n rows of a part, D dim.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from recis_core.nn.id_input import HASHED, as_ids
from recis_core.nn.table_module import TableModule
from recis_core.plain_torch import in_plain_torch, without_gradients
from recis_core.table.table_interface import Verbs
from recis_core.uninterrupted import as_one

if TYPE_CHECKING:
    from recis_core.options.embedding_option import EmbeddingOption
    from recis_core.table.table import Table

_TOO_LARGE = "ids are of 64 bits, int64 or the same bits unsigned; got {}."


class TableVerbs(TableModule):
    """HashTable as a container of rows by id."""

    name: str
    option: EmbeddingOption
    physical: Table
    ordinal: int
    _requires_grad: bool

    if TYPE_CHECKING:

        def check_ids(self, ids: Tensor, feature: str | None = None) -> None: ...

    @property
    def requires_grad(self) -> bool:
        """Whether training forwards give this table gradients. Can be set, directly or by requires_grad_()."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, requires_grad: bool) -> None:
        if not isinstance(requires_grad, bool):
            raise TypeError(f"trainable must be True or False, and so requires_grad; got {requires_grad!r}.")
        self._requires_grad = requires_grad

    @property
    def trainable(self) -> bool:
        """requires_grad under EmbeddingOption's name; can be set too."""
        return self.requires_grad

    @trainable.setter
    def trainable(self, trainable: bool) -> None:
        self.requires_grad = trainable

    @property
    def _verbs(self) -> Verbs:
        return self.physical.verbs(self.ordinal)

    @in_plain_torch
    @as_one
    def __len__(self) -> int:
        """Rows of the logical table: each row of all ranks and tiers, counted once.

        Collective with several ranks; stats()["rows"] counts the rows of this rank. O(1), except for a replicated table,
        whose ranks compare their ids.
        """
        return self._verbs.count()

    def __bool__(self) -> bool:
        """True, as of any module; not collective. To test for an empty table use `len(table) == 0`."""
        return True

    def __contains__(self, id: object) -> bool:
        """Whether an id, an int or a 0-d integer tensor, has a row. Collective with several ranks. Inserts and counts nothing.

        Raises:
          TypeError: the id is no integer. ValueError: the id has more than 64 bits.
        """
        return bool(self._looked_up(lambda: _one(id))[1].item())

    def lookup(self, ids: Tensor | np.ndarray | Sequence[int]) -> tuple[Tensor, Tensor]:
        """Vectors of ids, and which ids have a row; nothing is inserted, counted or moved, in training mode too.

        Vectors are exact, whatever the exchange's precision, and have no gradient. A lookup is no use of a row: stats(),
        admission, filters and a cache's policy do not count it. stats() counts the bytes that it reads from tiers.
        Collective with several ranks: each calls with its own ids, or none.

        Args:
          ids: int64 [...] on the table's device; ids may repeat. Narrower integers, NumPy arrays and lists are converted;
            unsigned 64-bit ids keep their bits.

        Returns:
          (vectors float32 [..., D], found bool [...]) on the table's device. Unknown ids give what EmbeddingOption.unknown
          names: zeros, or the initial vector of the id.

        Raises:
          TypeError, ValueError: ids are no integers, have more than 64 bits, or are on another device.
        """
        return self._looked_up(lambda: _ids_on(self.physical.device, ids))

    @in_plain_torch
    @as_one
    @without_gradients
    def _looked_up(self, given: Any) -> tuple[Tensor, Tensor]:
        ids = self._checked("lookup", given)
        vectors, found = self._verbs.lookup(ids.reshape(-1), self.option.unknown)
        return vectors.reshape(*ids.shape, vectors.shape[1]), found.reshape(ids.shape)

    @in_plain_torch
    @as_one
    @without_gradients
    def erase(self, ids: Tensor | np.ndarray | Sequence[int]) -> int:
        """Erase rows in every tier: vectors, optimizer slots, pending gradients, and gradients of backwards still to come.

        An erased id that comes again in training starts as a new one. Unknown ids are ignored.
        Collective with several ranks: the ids of all ranks are erased.

        Args:
          ids: as for `lookup`.

        Returns:
          how many of all ranks' ids had a row.

        Raises:
          TypeError, ValueError: as lookup. StorageFull: the disk has no room to record the erasure; no row was erased.
        """
        found = self._checked("erase", lambda: _ids_on(self.physical.device, ids))
        return self._verbs.erase(found.reshape(-1))

    @in_plain_torch
    def evict(self) -> int:
        """Evict this rank's rows that filter_hook selects; returns how many, 0 without a hook. See FilterHook.

        Raises:
          RecisError: the table is replicated and may have pending gradients.
        """
        return self.physical.evict([self.ordinal])[self.ordinal]

    @in_plain_torch
    def clear(self) -> None:
        """Erase all rows and their pending gradients. Collective with several ranks: all clear the table, or none."""
        self.physical.clear([self.ordinal])

    def items(self, chunk: int = 65_536) -> Iterator[tuple[Tensor, Tensor]]:
        """This rank's rows in parts: (ids int64 [n], vectors float32 [n, D]) on the CPU, n = chunk except in the last part.

        Holds one part in memory. Rows come in storage order: the same at every call until a row is added, erased or moved;
        without a cache the same on every backend. `torch.cat` of all ids, sorted, is `ids()`.
        With sharding="column" vectors hold the columns of this rank; with "replicated" every rank gives all rows.

        Raises:
          ValueError: chunk is below 1.
          RecisError: at the next part, if a row was added, erased or moved, or a step was made.
        """
        if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
            raise ValueError(f"chunk must be a whole number of rows, at least 1; got {chunk!r}.")
        return self._verbs.items(chunk)

    def _checked(self, kind: str, given: Any) -> Tensor:
        """Checked ids; an error here makes the other ranks' call fail, too."""
        exchange = self.physical.exchange
        with nullcontext() if exchange is None else exchange.channel.failing_together(kind):
            ids: Tensor = given()
            self.check_ids(ids)
            return ids


def _ids_on(device: torch.device, ids: Any) -> Tensor:
    """int64 [...]: tensors stay on their device, arrays and lists go to `device`. Raises as `lookup`."""
    if isinstance(ids, Tensor):
        return as_ids(ids, "ids")
    return as_ids(_listed(ids) if isinstance(ids, list | tuple | range) else ids, "ids").to(device)


def _listed(ids: Sequence[Any]) -> np.ndarray:
    array = np.asarray(ids) if len(ids) else np.zeros(0, np.int64)
    if array.dtype == object:
        beyond = [x for x in array.flat if isinstance(x, int) and not -(2**63) <= x < 2**64]
        if beyond:
            raise ValueError(_TOO_LARGE.format(beyond[0]))
    return array


def _one(id: object) -> Tensor:
    if isinstance(id, bool | np.bool_) or (isinstance(id, Tensor | np.ndarray) and id.ndim > 0):
        raise TypeError(f"`in` takes one id, an integer; got {id!r:.80}. lookup(ids) says of many which are there.")
    try:
        number = operator.index(id)  # type: ignore[arg-type]
    except TypeError as error:
        hint = f" {HASHED}" if isinstance(id, str | bytes) else ""
        raise TypeError(f"an id is an integer; got {type(id).__name__}.{hint}") from error
    if not -(2**63) <= number < 2**64:
        raise ValueError(_TOO_LARGE.format(number))
    return torch.tensor(number - 2**64 if number >= 2**63 else number)
