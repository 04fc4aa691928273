"""Whether the disk below one table's tiers is open: it is opened when rows are first asked for, and given back once."""

from __future__ import annotations

import logging
import weakref
from typing import TYPE_CHECKING

from recis_core.backends.errors import RecisError
from recis_core.uninterrupted import as_one

if TYPE_CHECKING:
    from recis_core.table.disk import DiskStore

LOG = logging.getLogger(__name__)


class DiskHandle:
    """closing: gives the disk back, and runs when this goes: the store's threads hold the store. None before it is opened."""

    def __init__(self, *, wanted: bool) -> None:
        self._wanted = wanted
        self.closing: weakref.finalize | None = None

    def closing_of(self, store: DiskStore) -> weakref.finalize:
        """What `closing` is to be."""
        return weakref.finalize(self, _close, store)

    @property
    def opened(self) -> bool:
        """Whether it has been asked for."""
        return self.closing is not None

    @property
    def unopened(self) -> bool:
        """Whether there is a disk that nobody has asked for yet."""
        return self._wanted and self.closing is None

    @property
    def closed(self) -> bool:
        return self.closing is not None and not self.closing.alive

    def require_not_closed(self) -> None:
        if self.closed:
            raise RecisError(
                "the engine was closed, which gave back the rows that its cache had on disk. Call engine.close() last of all; "
                "to go on, build an engine anew: under CacheConfig(keep=True) it finds its rows there."
            )

    @as_one
    def give_back(self) -> None:
        """Raises what is wrong with the disk."""
        detached = None if self.closing is None else self.closing.detach()
        if detached is not None:
            detached[2][0].close(flush=False)

    def let_go(self) -> None:
        """As `give_back`; what goes wrong is logged."""
        if self.closing is not None:
            self.closing()


def _close(store: DiskStore) -> None:
    """Of tiers that went, or whose process ends: nobody is there to catch an error."""
    try:
        store.close(flush=False)
    except Exception as error:
        LOG.warning("%s was closed, but: %s", store.path, error)
