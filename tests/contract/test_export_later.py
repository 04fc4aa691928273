"""export_later: what a table held at the call, given later, on another thread, whatever the table has done since."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields

import numpy as np
import torch

from recis_core.backends import Clock, Snapshot, UpdateRule
from tests.contract.pair import Pair, make_spec
from tests.contract.recorded import Recorded
from tests.contract.test_export import IDS, SLOTS, TABLES


def _trained(backend: Recorded, **changes) -> Pair:
    pair = Pair(backend, make_spec(**{"rows": 12} | changes), SLOTS)
    pair.lookup(IDS[:24], TABLES[:24], clock=Clock(1))
    pair.erase(IDS[5:12], TABLES[5:12])
    return pair


def _go_on(pair: Pair) -> None:
    """Rows change, go and come; arrays grow."""
    pair.lookup(IDS, TABLES, clock=Clock(2))
    ones, hyper = np.ones((24, 8)) / 4, np.array([[0.5, 0, 0]] * 3, np.float32)
    pair.update(IDS[16:], TABLES[16:], ones, UpdateRule("sgd"), hyper, factor=1.0, t=(1, 1, 1))
    pair.erase(IDS[12:20], TABLES[12:20])


def differing(a: Snapshot, b: Snapshot) -> list[str]:
    def equal(x: object, y: object) -> bool:
        if isinstance(x, dict) and isinstance(y, dict):
            return list(x) == list(y) and all(equal(x[name], y[name]) for name in x)
        if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor):
            return x.dtype == y.dtype and torch.equal(x, y)
        return x == y

    return [field.name for field in fields(Snapshot) if not equal(getattr(a, field.name), getattr(b, field.name))]


def test_it_gives_what_was_there(backend: Recorded) -> None:
    pair = _trained(backend)
    expected, later = backend.export(pair.state), backend.export_later(pair.state)
    _go_on(pair)
    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(later).result()
    assert differing(found, expected) == []
    changed = differing(backend.export(pair.state), expected)
    assert {"ids", "weights", "stamps", "next_row"} <= set(changed)


def test_bfloat16_and_a_table_without_rows(backend: Recorded) -> None:
    for pair in (_trained(backend, dtype="bfloat16"), Pair(backend, make_spec())):
        expected, later = backend.export(pair.state), backend.export_later(pair.state)
        pair.lookup(IDS, TABLES, clock=Clock(2))
        assert differing(later(), expected) == []


def test_parts_are_the_whole_without_placement(backend: Recorded) -> None:
    pair = _trained(backend)
    whole = backend.export(pair.state)
    for most in (5, 1000):
        parts = list(backend.export_parts(pair.state, most))
        assert max(len(part.ids) for part in parts) <= most
        assert all(part.slot_numbers is None and part.free_rows is None for part in parts)
        for name in ("ids", "tables", "weights", "scores", "stamps"):
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name)), name
        for name, values in whole.slots.items():
            assert torch.equal(torch.cat([part.slots[name] for part in parts]), values)
    empty = list(backend.export_parts(Pair(backend, make_spec(), SLOTS).state, 5))
    assert [(len(part.ids), sorted(part.slots)) for part in empty] == [(0, sorted(whole.slots))]
