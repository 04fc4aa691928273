"""Saved states whose numbers are out of range, repeated or crossed: refused before anything changes, on every backend."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from recis_core.backends import Snapshot
from recis_core.backends.errors import CorruptCheckpoint, RecisError
from recis_core.backends.snapshot_checks import check_snapshot
from tests.contract.lived_in import KINDS, SLOTS, content, lived_in
from tests.contract.pair import make_spec
from tests.contract.recorded import Recorded

FULL = os.environ.get("RECIS_TEST_FULL") == "1"
FLIPPED = ("ids", "tables", "slot_numbers", "row_numbers", "scores", "stamps", "free_rows", "next_row", "buckets")
Change = Callable[[Snapshot], Snapshot]


def put(name: str, at: int, value: int) -> Change:
    """One element changed."""

    def changed(s: Snapshot) -> Snapshot:
        values = getattr(s, name).clone()
        values[at] = value
        return replace(s, **{name: values})

    return changed


def copied(name: str, source: int, to: int) -> Change:
    return lambda s: put(name, to, int(getattr(s, name)[source]))(s)


def other(name: str, change: Callable[[Any], Any]) -> Change:
    return lambda s: replace(s, **{name: change(getattr(s, name))})


def slot(name: str, values: Callable[[Tensor], Tensor]) -> Change:
    return lambda s: replace(s, slots=s.slots | {name: values(s.slots["m"])})


def in_another_bucket(s: Snapshot) -> Snapshot:
    """The first free way of the first bucket that is not the key's."""
    taken, key = set(s.slot_numbers.tolist()), int((s.slot_numbers >= 0).nonzero()[0])
    for way in (w for w in range(s.buckets * 16) if w not in taken):
        moved = put("slot_numbers", key, way)(s)
        if _refused(moved):
            return moved
    raise AssertionError("every free way suits the key")


def _refused(s: Snapshot) -> bool:
    try:
        check_snapshot(make_spec(dim=3, **KINDS["grows"]), {spec.name: spec for spec in SLOTS}, s)
    except ValueError:
        return True
    return False


def first_in_way(s: Snapshot) -> int:
    return int((s.slot_numbers >= 0).nonzero()[0])


CHANGES: dict[str, Change] = {
    "ids: other dtype": other("ids", Tensor.int),
    "ids: one more": other("ids", lambda x: torch.cat([x, x[:1] + 1000])),
    "ids: two dimensions": other("ids", lambda x: x[:, None]),
    "ids: none": other("ids", lambda x: None),
    "ids: repeated": lambda s: copied("ids", 0, 1)(copied("tables", 0, 1)(s)),
    "tables: past the last": put("tables", 3, 3),
    "tables: negative": put("tables", 3, -1),
    "tables: far away": put("tables", 3, 2**30),
    "tables: other dtype": other("tables", Tensor.long),
    "weights: other dtype": other("weights", Tensor.double),
    "weights: narrower": other("weights", lambda x: x[:, :2]),
    "weights: fewer": other("weights", lambda x: x[1:]),
    "weights: flat": other("weights", Tensor.flatten),
    "slots: unknown": slot("unknown", lambda m: m),
    "slots: wider": slot("m", lambda m: torch.cat([m, m], 1)),
    "slots: fewer": slot("v", lambda m: m[1:]),
    "slots: one line for all": slot("v", lambda m: m[:1]),
    "slots: other dtype": slot("m", Tensor.half),
    "scores: negative": put("scores", 0, -1),
    "scores: fewer": other("scores", lambda x: x[1:]),
    "scores: none": other("scores", lambda x: None),
    "stamps: negative": put("stamps", 0, -(2**31)),
    "stamps: other dtype": other("stamps", Tensor.long),
    "slot_numbers: past the last": put("slot_numbers", 0, 16 * 8),
    "slot_numbers: far away": put("slot_numbers", 0, 2**62),
    "slot_numbers: stash far away": put("slot_numbers", 0, -(2**62)),
    "slot_numbers: stash past its end": put("slot_numbers", 0, -1 - 1024),
    "slot_numbers: stash with a hole": put("slot_numbers", 0, -1 - 500),
    "slot_numbers: repeated": lambda s: copied("slot_numbers", first_in_way(s), first_in_way(s) + 1)(s),
    "slot_numbers: another bucket": in_another_bucket,
    "slot_numbers: other dtype": other("slot_numbers", Tensor.int),
    "slot_numbers: fewer": other("slot_numbers", lambda x: x[1:]),
    "row_numbers: past the last": put("row_numbers", 0, 2**30),
    "row_numbers: negative": put("row_numbers", 0, -1),
    "row_numbers: repeated": copied("row_numbers", 0, 1),
    "row_numbers: a free row's": lambda s: put("row_numbers", 0, int(s.free_rows[0]))(s),
    "row_numbers: none": other("row_numbers", lambda x: None),
    "free_rows: past the last": put("free_rows", 0, 2**30),
    "free_rows: negative": put("free_rows", 0, -5),
    "free_rows: repeated": copied("free_rows", 0, 1),
    "free_rows: a used row": lambda s: put("free_rows", 0, int(s.row_numbers[0]))(s),
    "free_rows: none": other("free_rows", lambda x: None),
    "free_rows: two dimensions": other("free_rows", lambda x: x[None]),
    "free_rows: one lost": other("free_rows", lambda x: x[1:]),
    "next_row: below a row": other("next_row", lambda x: x - 1),
    "next_row: above all": other("next_row", lambda x: x + 1),
    "next_row: absurd": other("next_row", lambda x: 2**31),
    "next_row: negative": other("next_row", lambda x: -1),
    "next_row: no number": other("next_row", str),
    "buckets: no power of two": other("buckets", lambda x: x + 1),
    "buckets: none": other("buckets", lambda x: 0),
    "buckets: negative": other("buckets", lambda x: -x),
    "buckets: absurd": other("buckets", lambda x: 2**40),
    "buckets: more than ids say": other("buckets", lambda x: 16 * x),
    "buckets: too few": other("buckets", lambda x: 1),
    "buckets: no number": other("buckets", float),
}


def _flip(s: Snapshot, name: str, draw: np.random.Generator) -> Snapshot:
    value = getattr(s, name)
    if isinstance(value, int):
        return replace(s, **{name: value ^ (1 << int(draw.integers(40)))})
    at, bits = int(draw.integers(len(value))), 8 * value.element_size()
    array = value.numpy().copy()
    array.view(f"u{value.element_size()}")[at] ^= np.array(1 << int(draw.integers(bits)), f"u{value.element_size()}")
    return replace(s, **{name: torch.from_numpy(array)})


@pytest.fixture
def saved(backend: Recorded) -> Snapshot:
    return backend.export(lived_in(backend, "grows"))


def _empty(backend: Recorded) -> Any:
    return backend.add_slots(backend.create(make_spec(dim=3, **KINDS["grows"])), SLOTS)


def test_what_contradicts_itself_is_refused(backend: Recorded, saved: Snapshot) -> None:
    """Into an empty table, where placement would be kept, and into one that holds ids."""
    for state in (_empty(backend), lived_in(backend, "grows")):
        before = content(backend, state)
        for name, change in CHANGES.items():
            with pytest.raises(ValueError, match=r"snapshot\.") as refused:
                backend.restore(state, change(saved))
            assert "got" in str(refused.value), name
        assert content(backend, state) == before
    backend.restore(state := _empty(backend), saved)
    assert content(backend, state).snapshot.ids.equal(saved.ids)


def test_flipped_bits(backend: Recorded, saved: Snapshot) -> None:
    """A state with one flipped bit is refused, or is a state that the table then holds exactly."""
    draw, state = np.random.default_rng(5), _empty(backend)
    before = content(backend, state)
    tries = (2000 if backend.name in ("torch", "numba") else 200) if FULL else 40
    for _ in range(tries):
        flipped = _flip(saved, FLIPPED[draw.integers(len(FLIPPED))], draw)
        try:
            backend.restore(state, flipped)
        except ValueError:
            continue
        _holds(content(backend, state).snapshot, flipped)
        state = _empty(backend)
    assert content(backend, state) == before


def _holds(got: Snapshot, given: Snapshot) -> None:
    """In whatever order of keys."""
    place = {key: i for i, key in enumerate(zip(got.tables.tolist(), got.ids.tolist(), strict=True))}
    at = torch.tensor([place[key] for key in zip(given.tables.tolist(), given.ids.tolist(), strict=True)])
    for name in ("weights", "slot_numbers", "row_numbers", "scores", "stamps"):
        assert getattr(got, name)[at].equal(getattr(given, name)), name
    assert (got.next_row, got.buckets, got.free_rows.tolist()) == (
        given.next_row,
        given.buckets,
        given.free_rows.tolist(),
    )


def test_each_field_is_changed() -> None:
    names = set(Snapshot.__dataclass_fields__)
    assert {name.split(":")[0] for name in CHANGES} == names
    assert set(FLIPPED) == names - {"weights", "slots"}
    assert issubclass(CorruptCheckpoint, RecisError), "what callers make of the ValueError"


def test_keys_in_another_order_pass() -> None:
    """Saved states of several ranks come joined, not sorted."""
    spec, order = make_spec(dim=1), torch.tensor([2, 0, 1])
    given = Snapshot(torch.tensor([5, 1, 5])[order], torch.tensor([0, 1, 2]).int()[order], torch.zeros(3, 1))
    check_snapshot(spec, {}, given)
    with pytest.raises(ValueError, match="each id of a table once; got 5 again"):
        check_snapshot(spec, {}, replace(given, tables=torch.zeros(3).int()))
