"""Whether a Snapshot may be written into a table: all of it is checked before anything changes.

A state from a disk may hold any numbers, even with a correct hash. Numbers out of range, repeated or crossed would make
a backend write outside its index, or give two ids one row.

Sizes: n keys, f free rows, D dim, T logical tables, S buckets, W ways.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from recis_core.backends import placement
from recis_core.backends.records import Snapshot
from recis_core.backends.spec import SlotSpec, TableSpec

MOST_BUCKETS = 1 << 26  # entries are counted in int32
UNBOUNDED = 2**31 - 1
PLACEMENT = {"row_numbers": torch.int32, "scores": torch.int32, "stamps": torch.int32, "free_rows": torch.int32}


def check_snapshot(spec: TableSpec, slots: Mapping[str, SlotSpec], snapshot: Snapshot) -> None:
    """slots: those the table has.

    Raises:
      ValueError: a dtype or shape does not fit the table, or keys or placement contradict themselves.
    """
    n = snapshot.ids.numel() if isinstance(snapshot.ids, Tensor) else 0
    _check_tensor("ids", snapshot.ids, torch.int64, (n,))
    _check_tensor("tables", snapshot.tables, torch.int32, (n,))
    _check_tensor("weights", snapshot.weights, getattr(torch, spec.dtype), (n, spec.dim))
    _check_slots(slots, snapshot, n)
    for name in ("scores", "stamps"):
        _check_marks(name, getattr(snapshot, name), n)
    tables = snapshot.tables.numpy()
    _check_range("tables", tables, 0, len(spec.uids))
    uids = np.asarray(spec.uids, np.uint32)[tables]
    _check_distinct_keys(snapshot.ids.numpy(), uids)
    if snapshot.slot_numbers is not None:
        _check_placement(spec, snapshot, uids, n)


def keeps_placement(spec: TableSpec, used: int, buckets: int, snapshot: Snapshot) -> bool:
    """Whether a table of `used` keys and so many buckets takes the snapshot's placement over."""
    if used or snapshot.slot_numbers is None:
        return False
    fits = spec.max_rows is None or snapshot.next_row <= spec.max_rows
    return fits and (spec.grows or snapshot.buckets == buckets)


def _check_tensor(name: str, tensor: Tensor | None, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    if not isinstance(tensor, Tensor):
        raise ValueError(f"snapshot.{name} must be {dtype} {list(shape)}; got {type(tensor).__name__}.")
    if tensor.dtype != dtype or tuple(tensor.shape) != shape:
        raise ValueError(
            f"snapshot.{name} must be {dtype} {list(shape)}; got {tensor.dtype} {list(tensor.shape)}. "
            "Convert it, or make the table as the saved one was."
        )


def _check_slots(slots: Mapping[str, SlotSpec], snapshot: Snapshot, n: int) -> None:
    unknown = sorted(snapshot.slots.keys() - slots.keys())
    if unknown:
        raise ValueError(f"snapshot.slots must be among the table's, {sorted(slots)}; got {unknown} beside them.")
    for name, values in snapshot.slots.items():
        _check_tensor(f"slots[{name!r}]", values, torch.float32, (n, slots[name].width))


def _check_marks(name: str, values: Tensor | None, n: int) -> None:
    if values is not None:
        _check_tensor(name, values, torch.int32, (n,))
        _check_range(name, values.numpy(), 0, UNBOUNDED + 1)


def _check_range(name: str, values: np.ndarray, low: int, end: int) -> None:
    if len(values) and not low <= values.min() <= values.max() < end:
        raise ValueError(f"snapshot.{name} must be in [{low}, {end}); got {values.min()} to {values.max()}.")


def _check_distinct_keys(ids: np.ndarray, uids: np.ndarray) -> None:
    if _ascends(ids, uids):
        return
    order = np.lexsort((ids, uids))
    ids, uids = ids[order], uids[order]
    again = np.flatnonzero((ids[1:] == ids[:-1]) & (uids[1:] == uids[:-1]))
    if len(again):
        raise ValueError(f"snapshot.ids must hold each id of a table once; got {ids[again[0]]} again.")


def _ascends(ids: np.ndarray, uids: np.ndarray) -> bool:
    """As exported: by (uid, signed id), each once."""
    later = (uids[1:] > uids[:-1]) | ((uids[1:] == uids[:-1]) & (ids[1:] > ids[:-1]))
    return bool(later.all())


def _check_placement(spec: TableSpec, snapshot: Snapshot, uids: np.ndarray, n: int) -> None:
    _check_tensor("slot_numbers", snapshot.slot_numbers, torch.int64, (n,))
    for name, dtype in PLACEMENT.items():
        given = getattr(snapshot, name)
        _check_tensor(name, given, dtype, (len(given),) if name == "free_rows" and isinstance(given, Tensor) else (n,))
    slots, rows, free = (
        x.numpy() for x in (snapshot.slot_numbers, snapshot.row_numbers, snapshot.free_rows) if x is not None
    )
    _check_buckets(snapshot.buckets, n)
    _check_rows(rows, free, snapshot.next_row)
    _check_slot_numbers(slots, snapshot.ids.numpy(), uids, snapshot.buckets)


def _check_buckets(buckets: int, n: int) -> None:
    most = MOST_BUCKETS
    if not _is_int(buckets) or not 1 <= buckets <= most or buckets & (buckets - 1):
        raise ValueError(f"snapshot.buckets must be a power of two from 1 to {most}; got {buckets!r}.")
    if n > buckets * placement.WAYS + placement.STASH:
        raise ValueError(f"snapshot.buckets must hold {n} ids, {placement.WAYS} each; got {buckets}.")


def _check_rows(rows: np.ndarray, free: np.ndarray, next_row: int) -> None:
    """Every row below next_row belongs to one key or is free once: so an absurd next_row takes no memory."""
    wanted = len(rows) + len(free)
    if not _is_int(next_row) or next_row != wanted:
        raise ValueError(
            f"snapshot.next_row must be {wanted}, {len(rows)} used and {len(free)} free; got {next_row!r}."
        )
    _check_range("row_numbers", rows, 0, next_row)
    _check_range("free_rows", free, 0, next_row)
    seen = np.zeros(next_row, bool)
    seen[rows] = True
    if seen.sum() != len(rows):
        raise ValueError("snapshot.row_numbers must be distinct; got one row for several ids.")
    if seen[free].any():
        raise ValueError("snapshot.free_rows must name rows without an id; got one that has an id.")
    seen[free] = True
    if not seen.all():
        raise ValueError("snapshot.free_rows must be distinct; got one row twice.")


def _check_slot_numbers(slots: np.ndarray, ids: np.ndarray, uids: np.ndarray, buckets: int) -> None:
    _check_range("slot_numbers", slots, -placement.STASH, buckets * placement.WAYS)
    stash = np.sort(-1 - slots[slots < 0])
    if not np.array_equal(stash, np.arange(len(stash))):
        raise ValueError(f"snapshot.slot_numbers must number the stash from -1 down; got {len(stash)} with gaps.")
    inside = slots >= 0
    bucket = slots[inside] // placement.WAYS
    _, a, b = (word[inside] & np.uint32(buckets - 1) for word in placement.hash_words(ids, uids))
    if not ((bucket == a) | (bucket == b)).all():
        raise ValueError("snapshot.slot_numbers must lie in one of each id's two buckets; got another.")
    ordered = np.sort(slots)
    if (ordered[1:] == ordered[:-1]).any():
        raise ValueError("snapshot.slot_numbers must be distinct; got one slot for several ids.")


def _is_int(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
