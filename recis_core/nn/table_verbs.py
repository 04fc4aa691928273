"""A table's verbs beside training: len, in, lookup, erase, items, evict and clear.

Each reads what it is asked for, never the whole table. Beside other ranks `len`, `in`, `lookup` and `erase` are of the logical
table and collective: every rank calls, with ids of its own or none; a rank alone raises ExchangeMismatch once the others
are in another call. `items` are the rows of this rank.

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
    """What HashTable does as a container of rows by id."""

    name: str
    option: EmbeddingOption
    physical: Table
    ordinal: int
    _requires_grad: bool

    if TYPE_CHECKING:

        def check_ids(self, ids: Tensor, feature: str | None = None) -> None: ...

    @property
    def requires_grad(self) -> bool:
        """Whether training forwards leave gradients here. It may be set, as by requires_grad_()."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, requires_grad: bool) -> None:
        if not isinstance(requires_grad, bool):
            raise TypeError(f"trainable must be True or False, and so requires_grad; got {requires_grad!r}.")
        self._requires_grad = requires_grad

    @property
    def trainable(self) -> bool:
        """EmbeddingOption's word for requires_grad; may be set likewise."""
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
        """Rows of the logical table, those of all ranks and tiers, each once. Collective beside other ranks; stats()["rows"]
        says how many are here. O(1), but for a replicated table, whose ranks compare their ids.
        """
        return self._verbs.count()

    def __bool__(self) -> bool:
        """True, as any module, and without asking other ranks; `len(table) == 0` says that a table is empty."""
        return True

    def __contains__(self, id: object) -> bool:
        """Whether an id, an int or a 0-d integer tensor, has a row. Inserts and counts nothing. Collective beside other ranks.

        Raises:
          TypeError: it is no integer. ValueError: it is none of 64 bits.
        """
        return bool(self._looked_up(lambda: _one(id))[1].item())

    def lookup(self, ids: Tensor | np.ndarray | Sequence[int]) -> tuple[Tensor, Tensor]:
        """Vectors of ids, and which ids have one; nothing is inserted, counted or moved, in training mode too.

        A forward in eval() without a gradient, as it were, but exact whatever the exchange's precision, and no use of a row: not
        in stats(), not to admission, filters or a cache's policy. Bytes that it reads from tiers are in stats().
        Collective beside other ranks: each asks for ids of its own, or for none.

        Args:
          ids: int64 [...] on the table's device, repeated ones welcome; narrower integers, a NumPy array or a list are taken,
            and of unsigned ones the same bits.

        Returns:
          (vectors float32 [..., D], found bool [...]) on the table's device. What is not found reads as EmbeddingOption.unknown
          says: zeros, or the vector that the id would begin with.

        Raises:
          TypeError, ValueError: ids are no integers, have more than 64 bits, or are on another device.
        """
        return self._looked_up(lambda: _ids_on(self.physical.device, ids))

    @in_plain_torch
    @as_one
    @without_gradients
    def _looked_up(self, given: Any) -> tuple[Tensor, Tensor]:
        ids = self._told("lookup", given)
        vectors, found = self._verbs.lookup(ids.reshape(-1), self.option.unknown)
        return vectors.reshape(*ids.shape, vectors.shape[1]), found.reshape(ids.shape)

    @in_plain_torch
    @as_one
    @without_gradients
    def erase(self, ids: Tensor | np.ndarray | Sequence[int]) -> int:
        """Forget ids, wherever their rows lie: vectors, optimizer slots, and what waits for them, pending gradients and those
        of backwards to come. An id that comes again in training begins anew. Unknown ids are ignored.

        Collective beside other ranks: all forget what any of them names.

        Args:
          ids: as of `lookup`.

        Returns:
          how many had a row, of all ranks' ids together.

        Raises:
          TypeError, ValueError: as lookup. StorageFull: a disk has no room to note it, and all are here still.
        """
        found = self._told("erase", lambda: _ids_on(self.physical.device, ids))
        return self._verbs.erase(found.reshape(-1))

    @in_plain_torch
    def evict(self) -> int:
        """Forget the rows that filter_hook names, on this rank; how many went. 0 without a hook. See FilterHook.

        Raises:
          RecisError: the table is replicated, and gradients of it may be pending.
        """
        return self.physical.evict([self.ordinal])[self.ordinal]

    @in_plain_torch
    def clear(self) -> None:
        """Forget all ids, with their gradients that wait. With more ranks than one: on all of them, or none waits for it."""
        self.physical.clear([self.ordinal])

    def items(self, chunk: int = 65_536) -> Iterator[tuple[Tensor, Tensor]]:
        """This rank's rows, so many at a time: (ids int64 [n], vectors float32 [n, D]) on the CPU, n = chunk but for the last.

        Of memory it takes what a chunk takes. The order is that in which rows lie: the same at every call until rows come, go or
        move, and without a cache the same on every backend. `torch.cat` of all ids, sorted, is `ids()`.
        With sharding="column" vectors are the columns that live here; with "replicated" every rank has all rows.

        Raises:
          ValueError: chunk is below 1.
          RecisError: at the next part, where the table has changed since: a row came, went or moved, or a step was made.
        """
        if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
            raise ValueError(f"chunk must be a whole number of rows, at least 1; got {chunk!r}.")
        return self._verbs.items(chunk)

    def _told(self, kind: str, given: Any) -> Tensor:
        """ids, checked; what is wrong with them, other ranks are told."""
        exchange = self.physical.exchange
        with nullcontext() if exchange is None else exchange.channel.failing_together(kind):
            ids: Tensor = given()
            self.check_ids(ids)
            return ids


def _ids_on(device: torch.device, ids: Any) -> Tensor:
    """int64 [...]: a tensor where it is, others on the device. Raises as `lookup`."""
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
