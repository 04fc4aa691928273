"""A step that ends in the middle, by memory that is out or by Ctrl-C: the rows are those they were, or are whole anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from recis_core.nn import CacheConfig, EmbeddingEngine
from tests.tiers.training import adam, adam_of, assert_same_engines, engine_of, tiers_of
from tests.training.loop import random_batches, train

HOST = CacheConfig(device_rows=8, policy="lru")
BATCHES = random_batches(6, 60)


@pytest.fixture(params=["torch", "numba"])
def engines(request: pytest.FixtureRequest) -> list[EmbeddingEngine]:
    """One whose table fits, and one in tiers, trained alike."""
    made = [engine_of(cache, backend=request.param) for cache in (None, HOST)]
    for engine in made:
        train(engine, adam(engine), BATCHES)
    return made


class Once:
    """Fails in place of a method's next call, or after it."""

    def __init__(self, error: BaseException, *, done: bool = False) -> None:
        self.error, self.done, self.waits = error, done, True

    def around(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            fails, self.waits = self.waits, False
            if not fails:
                return method(*args, **kwargs)
            if self.done:
                method(*args, **kwargs)
            raise self.error

        return wrapped


def fail_once(
    monkeypatch: pytest.MonkeyPatch, engine: EmbeddingEngine, name: str, error: BaseException, *, done: bool = False
) -> None:
    backend = tiers_of(engine).backend
    monkeypatch.setattr(backend, name, Once(error, done=done).around(getattr(backend, name)), raising=False)


def test_a_device_that_gets_no_memory_for_another_size_keeps_its_rows(
    monkeypatch: pytest.MonkeyPatch, engines: list[EmbeddingEngine]
) -> None:
    plain, tiered = engines
    fail_once(monkeypatch, tiered, "write_rows", MemoryError())
    state = tiers_of(tiered)
    with pytest.raises(MemoryError), state.lock:
        state.resize(20)
    assert state.device.capacity == 8
    assert_same_engines(tiered, plain)
    with state.lock:
        state.resize(20)
    assert_same_engines(tiered, plain)


def test_rows_that_could_not_be_brought_are_brought_at_the_next_call(
    monkeypatch: pytest.MonkeyPatch, engines: list[EmbeddingEngine]
) -> None:
    plain, tiered = engines
    batch = {"f": plain.table("f").ids()[:6]}
    inserted = tiered.table("f").stats()["inserted"]
    fail_once(monkeypatch, tiered, "write_rows", MemoryError())
    with pytest.raises(MemoryError):
        tiered(batch)
    assert tiered.table("f").stats()["inserted"] == inserted
    assert_same_engines(tiered, plain)
    losses = [train(engine, adam_of(engine), [batch, *BATCHES]) for engine in engines]
    assert losses[1] == losses[0]
    assert_same_engines(tiered, plain)


def test_rows_of_an_update_that_was_interrupted_are_written_back(
    monkeypatch: pytest.MonkeyPatch, engines: list[EmbeddingEngine]
) -> None:
    """After it had changed them."""
    plain, tiered = engines
    batch = {"f": plain.table("f").ids()[:6]}
    train(plain, adam_of(plain), [batch])
    fail_once(monkeypatch, tiered, "update", KeyboardInterrupt(), done=True)
    optimizer = adam_of(tiered)
    with pytest.raises(KeyboardInterrupt):
        train(tiered, optimizer, [batch])
    optimizer.zero_grad()
    others = {"f": plain.table("f").ids()[-8:]}
    for engine in engines:
        engine(others)
    assert_same_engines(tiered, plain)
