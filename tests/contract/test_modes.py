"""Tables made and used under torch's modes: inference, a default device without memory, another default dtype."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from recis_core.backends import Backend, Clock, LookupCall, LookupMode, Request
from tests.contract.compare import assert_same_table
from tests.contract.lived_in import ADAM, HYPER, SLOTS, keys
from tests.contract.pair import make_spec
from tests.contract.recorded import Recorded


@contextmanager
def _default_device() -> Iterator[None]:
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def _default_dtype() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "inference": torch.inference_mode,
    "under meta": lambda: torch.device("meta"),
    "default meta": _default_device,
    "default float64": _default_dtype,
}


def _call(*ids: int) -> LookupCall:
    """Given on the CPU, whatever the default."""
    n = len(ids)
    offsets = torch.tensor([0, 1, n // 2], device="cpu"), torch.tensor([0, n - n // 2], device="cpu")
    weights = torch.ones(n // 2, dtype=torch.float32, device="cpu")
    requests = Request("mean", offsets[0], weights), Request("sqrtn", offsets[1])
    return LookupCall(torch.tensor(ids, device="cpu"), (n // 2, n - n // 2), (0, 1), requests)


def _forward(backend: Backend, state: Any, *ids: int, insert: bool = True) -> tuple[Any, list[Tensor]]:
    outputs, saved = backend.embed(
        state,
        _call(*ids),
        mode=LookupMode(insert=insert, unknown="initial", touch=insert),
        clock=Clock(1, 1),
        weights_need_grad=(insert, False),
    )[1:3]
    return saved, outputs


def _trained(backend: Backend, state: Any, *ids: int) -> list[Tensor]:
    saved, outputs = _forward(backend, state, *ids)
    gradient, to_weights = backend.embed_grad(saved, [torch.ones_like(out) for out in outputs])
    combined = backend.combine([gradient, gradient], mean=True)
    squares, finite = backend.measure(combined)
    backend.update(state, combined, ADAM, hyper=HYPER, factor=1.0, t=(1, 1, 1))
    return [*outputs, to_weights[0], squares, finite]


def _lived(backend: Backend, mode: AbstractContextManager[Any]) -> tuple[Any, list[Tensor]]:
    """Made, grown, trained, erased from and looked at inside the mode; then trained outside."""
    with mode:
        state = backend.add_slots(backend.create(make_spec(dim=3, rows=12)), SLOTS)
        seen = _trained(backend, state, *range(40))
        seen += _forward(backend, state, *range(30, 50), insert=False)[1]
        ids = torch.arange(6, device="cpu")
        backend.erase(state, ids, torch.zeros(6, dtype=torch.int32, device="cpu"))
        seen += _forward(backend, state, 3, 4, 100, 101)[1]
        saved = backend.export(state)
        backend.restore(backend.add_slots(backend.create(state.spec), SLOTS), saved)
    return state, seen + _trained(backend, state, *range(3, 20), 200)


@pytest.mark.parametrize("mode", MODES)
def test_a_table_is_the_same_in_every_mode(backend: Recorded, mode: str) -> None:
    plain, wanted = _lived(backend, torch.no_grad())
    state, seen = _lived(backend, MODES[mode]())
    assert_same_table(backend.export(state), backend.export(plain))
    for got, want in zip(seen, wanted, strict=True):
        assert got.device == want.device
        assert got.dtype == want.dtype
        assert torch.equal(got, want)


def test_what_inference_leaves_behind(backend: Recorded) -> None:
    """Every stage that writes, after one in inference mode made what it writes to."""
    state = backend.add_slots(backend.create(make_spec(dim=3, rows=12)), SLOTS)
    with torch.inference_mode():
        ids, tables = keys(*range(70))
        state, rows, _ = backend.lookup(state, ids, tables, mode=LookupMode(), clock=Clock(1))
        backend.erase(state, ids[:3], tables[:3])
        weights, slots = backend.read_rows(state, rows[3:])
        gradient = backend.gradient(state, ids[3:], tables[3:], rows[3:], torch.ones(67, 3))
    backend.write_rows(state, rows[3:], weights + 1, slots)
    backend.write_slot(state, "m", rows[3:5], torch.ones(2, 3))
    backend.update(state, gradient, ADAM, hyper=HYPER, factor=1.0, t=(1, 1, 1))
    backend.lookup(state, ids[:5].clone(), tables[:5].clone(), mode=LookupMode(), clock=Clock(2))
    backend.restore(state, backend.export(state))
    assert backend.counters(state).rows == 70
