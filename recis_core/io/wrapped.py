"""Says once of a column that unsigned ids of 2**63 and more become negative."""

from __future__ import annotations

import logging
import os
import threading

import pyarrow as pa

from recis_core.io.kinds import is_list, leaf_type
from recis_core.io.leaves import flattened, row_of
from recis_core.io.rows import Place

LOG = logging.getLogger("recis_core.io")
_said: set[tuple[str, str]] = set()
_lock = threading.Lock()


def say_if_wrapped(array: pa.Array, place: Place, column: str) -> None:
    """A warning of the logger recis_core.io, once for a folder's column in a process."""
    if not pa.types.is_uint64(leaf_type(array.type)):
        return
    row = _first_wrapped(array)
    if row is None:
        return
    path, number = place(row)
    with _lock:
        again = (os.path.dirname(path), column) in _said
        _said.add((os.path.dirname(path), column))
    if not again:
        LOG.warning(
            "%s, column %r, row %d (the first is 0): uint64 values of 2**63 and more keep their bits as int64, so they are "
            "negative ids. This is said once.",
            path,
            column,
            number,
        )


def _first_wrapped(array: pa.Array) -> int | None:
    if is_list(array.type):
        offsets, values = flattened(array)
        inner = _first_wrapped(values)
        return None if inner is None else row_of(offsets, inner)
    high = array.view(pa.int64()).fill_null(0).to_numpy() < 0
    return int(high.argmax()) if high.any() else None
