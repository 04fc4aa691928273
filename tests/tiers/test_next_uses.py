"""Notes of next uses against a look through all calls to come."""

from __future__ import annotations

from collections import deque

import numpy as np

from recis_core.backends.tier_loops.next_uses import NEVER, NextUses

Key = tuple[int, int]


def next_call(key: Key, later: list[tuple[int, int, list[Key]]]) -> int:
    return next((call for call, _, keys in later if key in keys), int(NEVER))


def test_notes_are_what_the_calls_to_come_say() -> None:
    random, uses = np.random.default_rng(0), NextUses()
    calls: deque[tuple[int, int, list[Key]]] = deque()
    known = 0
    for call in range(400):
        n = random.integers(0, 300)
        ids, tables = random.choice(900, n, replace=False) - 400, random.integers(0, 2, n).astype(np.int32)
        keys = list(zip(ids.tolist(), tables.tolist(), strict=True))
        begin, first = uses.note(ids, tables, call)
        asked = {key for _, _, others in calls for key in others}
        assert first.tolist() == [i for i, key in enumerate(keys) if key not in asked]
        calls.append((call, begin, keys))
        for _ in range(random.integers(0, 3)):  # the window widens to tens of calls, and closes
            if calls:
                _, at, come = calls.popleft()
                want = [next_call(key, list(calls)) for key in come]
                assert uses.noted(at, len(come)).tolist() == want
                known += sum(number != NEVER for number in want)
                uses.forget(at + len(come))
        if call % 97 == 96 and calls:
            uses.forget(calls[-1][1] + len(calls[-1][2]))
            calls.clear()
    assert known > 5000


def test_the_map_stays_as_large_as_what_is_to_come() -> None:
    """Keys of calls that came make room for others."""
    uses = NextUses()
    for call in range(1000):
        begin, first = uses.note(np.arange(100) + 100 * call, np.zeros(100, np.int32), call)
        assert len(first) == 100
        uses.forget(begin)
    assert len(uses._places[0]) <= 2048
    assert len(uses._ring) <= 1024
