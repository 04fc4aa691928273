"""A version under way and a signal at any instant: lookups see the version before or after, and the stream goes on."""

import os
import random
import signal
from contextlib import contextmanager

import pytest
import torch

from recis_core.exchange.stream import RowStore
from tests.dropped import later_if_dropped
from tests.serving.test_row_store import STREAM, commit, packet, snapshot

FULL = os.environ.get("RECIS_TEST_FULL") == "1"


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_a_signal_at_any_instant_leaves_a_version_whole(backend):
    """Each version is tried under ever longer timers until one is long enough."""
    source, interrupted, versions = random.Random(9), 0, 300 if FULL else 12
    store = RowStore(backend=backend)
    snapshot(store, STREAM, {"a": (40, 3), "b": (20, 3)}, value=1)
    for version in range(2, versions):
        base, wait = version % 2 * (version - 1), 1e-3
        frames = [
            packet("a", list(range(40)), version, version, 0, base=base),
            packet("b", list(range(20)), version, version, 1, base=base),
            commit(version, 2, base=base),
        ]
        while store.version < version:
            wait *= 1.5
            try:
                with timer(source.random() * wait):
                    for p in frames:
                        store.apply(p)
            except TooLate:
                interrupted += 1
                store.abandon()
            rows = store.lookup_all({"a": torch.arange(40), "b": torch.arange(20)})
            assert {x for values in rows.values() for x in values.flatten().tolist()} == {float(store.version)}
            assert store.version in (version - 1, version)
    assert interrupted >= versions // 2


class TooLate(Exception):
    pass


@contextmanager
def timer(seconds):
    def late(number, frame):
        if not later_if_dropped(frame):
            raise TooLate

    before = signal.signal(signal.SIGALRM, late)
    try:
        signal.setitimer(signal.ITIMER_REAL, max(1e-6, seconds))
        yield
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
