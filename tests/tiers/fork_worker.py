"""A process that trains on a disk, forks, and goes on; see test_fork.py. Says "ok" for scratch, and for rows that are kept."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from recis_core.backends.errors import RecisError, StorageInUse
from recis_core.nn import EmbeddingEngine
from tests.tiers.training import adam, adam_of, assert_same_engines, cache_in, engine_of
from tests.training.loop import random_batches, train

BATCHES = random_batches(12)


def inherited(engine: EmbeddingEngine) -> Any:
    """The tiers that a child has of its parent, which no door of the engine gives it."""
    return engine.table("f").physical._storage.tiers


def leaves(engine: EmbeddingEngine) -> None:
    """In the ordinary way: what is to be done at exit is done."""
    sys.exit(0)


def collects(engine: EmbeddingEngine) -> None:
    tiers = inherited(engine)
    tiers.lower.disk.close()
    tiers.close()
    engine.close()
    del engine
    gc.collect()


def uses(engine: EmbeddingEngine) -> None:
    """Every door says whose rows these are, and changes nothing."""
    disk = inherited(engine)._lower.disk
    for call in (
        lambda: engine(BATCHES[0]),
        lambda: engine.eval()(BATCHES[0]),
        engine.stats,
        engine.state_dict,
        engine.flush,
        lambda: disk.flush(),
        lambda: len(disk),
        lambda: list(disk.scan()),
    ):
        with pytest.raises(RecisError, match="spawn"):
            call()
    engine.close()


def locked_out(engine: EmbeddingEngine) -> None:
    """The lock is the parent's, whatever its children do."""
    other = engine_of(inherited(engine).config)
    adam(other)
    with pytest.raises(StorageInUse):
        other(BATCHES[0])


CHILDREN: dict[str, Callable[[EmbeddingEngine], None]] = {
    "leaves": leaves, "collects": collects, "uses": uses, "locked out": locked_out,
}  # fmt: skip


def forked(call: Callable[[EmbeddingEngine], None], engine: EmbeddingEngine) -> int:
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    try:
        call(engine)
    except SystemExit:
        raise
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def lives_until_closed() -> int:
    """A child that does nothing; the end of its pipe that keeps it."""
    read, write = os.pipe()
    if os.fork() == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    return write


def main(folder: str, keep: bool) -> None:
    warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
    engine, plain = engine_of(cache_in(folder, 8, 12, keep=keep)), engine_of()
    for each in (engine, plain):
        train(each, adam(each), BATCHES[:4])
    end = lives_until_closed()
    for name, child in CHILDREN.items():
        if name == "locked out" and not keep:
            continue
        status = forked(child, engine)
        assert status == 0, (name, status)
        worker = multiprocessing.get_context("fork").Process(target=child, args=(engine,))
        worker.start()
        worker.join()
        assert worker.exitcode == 0, (name, worker.exitcode)
        assert_same_engines(engine, plain)
        for each in (engine, plain):
            train(each, adam_of(each), BATCHES[4:6])
    assert_same_engines(engine, plain)
    engine.close()
    if keep:  # though a child that was forked meanwhile still lives
        engine = engine_of(cache_in(folder, 8, 12, keep=True))
        adam(engine)
        train(engine, adam_of(engine), BATCHES[6:])
        engine.close()
    os.close(end)
    os.wait()
    print("ok", flush=True)


if __name__ == "__main__":
    for kind in ("scratch", "keep"):
        main(f"{sys.argv[1]}/{kind}", kind == "keep")
