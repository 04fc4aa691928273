"""The waiting lists behind CUDA memory, with stand-ins for streams and events: no GPU is needed, none is proved."""

import gc
import weakref
from types import SimpleNamespace

import jax.numpy as jnp
import torch

from recis_core.bridge import hold, lifetime, to_torch


class Held:
    """A plain object that a weak reference can watch."""


def test_waiting_lets_go_in_order_and_only_what_is_done():
    done = {"first": False, "second": True}
    waiting, first, second = lifetime.Waiting(), Held(), Held()
    alive = weakref.ref(first), weakref.ref(second)
    waiting.add(lambda: done["first"], first)
    waiting.add(lambda: done["second"], second)
    del first, second
    waiting.release()
    assert len(waiting) == 2
    assert all(ref() is not None for ref in alive)
    done["first"] = True
    waiting.release()
    assert len(waiting) == 0
    assert all(ref() is None for ref in alive)


def test_hold_keeps_nothing_of_the_cpu():
    before = len(lifetime._for_jax)
    hold([torch.ones(3)], until=[jnp.ones(3)])
    assert len(lifetime._for_jax) == before


def test_hold_keeps_cuda_tensors_until_the_result_is_ready(monkeypatch):
    monkeypatch.setattr(lifetime, "_for_jax", lifetime.Waiting())
    ready = {"now": False}
    result = SimpleNamespace(is_ready=lambda: ready["now"], is_deleted=lambda: False)
    tensor = SimpleNamespace(is_cuda=True)
    hold([tensor], until=[result])
    hold([], until=[])
    assert len(lifetime._for_jax) == 1
    ready["now"] = True
    hold([], until=[])
    assert len(lifetime._for_jax) == 0


def test_guard_waits_for_the_last_view_and_then_for_the_stream(monkeypatch):
    passed = {"now": False}
    event = SimpleNamespace(query=lambda: passed["now"])
    stream = SimpleNamespace(record_event=lambda: event)
    monkeypatch.setattr(lifetime, "_for_torch", lifetime.Waiting())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    array = jnp.arange(8.0)
    tensor = to_torch(array)
    lifetime.guard(tensor, array)
    view = tensor[2:].requires_grad_()
    kept_by_graph = (view * view).sum()
    del tensor, view
    gc.collect()
    assert len(lifetime._for_torch) == 0
    del kept_by_graph
    gc.collect()
    assert len(lifetime._for_torch) == 1
    passed["now"] = True
    lifetime._for_torch.release()
    assert len(lifetime._for_torch) == 0
