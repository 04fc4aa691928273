"""Tables with a history, and each stage that changes one, to be tried on copies of them.

Sizes: n keys, D dim.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recis_core.backends import (
    Backend,
    Clock,
    Counters,
    LookupCall,
    LookupMode,
    Request,
    SlotSpec,
    Snapshot,
    UpdateRule,
)
from recis_core.backends.errors import TableFull
from tests.contract.pair import make_spec
from tests.contract.test_placement import ids_of_buckets

SLOTS = (SlotSpec("m", 3), SlotSpec("v", 3, 0.25), SlotSpec("other", 1, 0.5))
ADAM = UpdateRule("adam", ("m", "v"))
HYPER = np.array([[-0.1, 0.9, 0.1, 0.99, 0.01, 1e-8, 1.0]] * 3, np.float32)
CROWD = ids_of_buckets(40, (2, 5))
KINDS = {
    "grows": {"rows": 96},
    "bfloat16": {"rows": 12, "dtype": "bfloat16"},
    "evicts": {"max_rows": 40, "evict": True, "score": "count"},
    "bounded": {"max_rows": 44},
}


def keys(*ids: int) -> tuple[Tensor, Tensor]:
    """The ids, in three tables by turns."""
    return torch.tensor(ids, dtype=torch.int64), torch.arange(len(ids), dtype=torch.int32) % 3


def gradient_of(backend: Backend, state: Any, ids: Tensor, tables: Tensor) -> Any:
    still = LookupMode(insert=False, touch=False)
    _, rows, _ = backend.lookup(state, ids, tables, mode=still, clock=Clock(9, 9))
    values = torch.linspace(-1, 1, len(ids) * 3).reshape(-1, 3)
    return backend.gradient(state, ids, tables, rows, values)


def lived_in(backend: Backend, kind: str) -> Any:
    """Ids 0 … 32, trained once, some erased; a stash where the table grows."""
    state = backend.add_slots(backend.create(make_spec(dim=3, **KINDS[kind])), SLOTS)
    ids, tables = keys(*range(33))
    state, *_ = backend.lookup(state, ids, tables, mode=LookupMode(), clock=Clock(1))
    if kind == "grows":
        crowd = torch.from_numpy(CROWD)
        state, *_ = backend.lookup(state, crowd, 0 * crowd.int(), mode=LookupMode(), clock=Clock(1))
    gradient = gradient_of(backend, state, ids, tables)
    state = backend.update(state, gradient, ADAM, hyper=HYPER, factor=1.0, t=(1, 1, 1))
    return backend.erase(state, ids[5:9], tables[5:9])


@dataclass(frozen=True)
class Content:
    """All that is seen of a table."""

    snapshot: Snapshot
    counters: Counters

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Content) or self.counters != other.counters:
            return False
        return all(_same(x, vars(other.snapshot)[name]) for name, x in vars(self.snapshot).items())


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    return bool(torch.equal(one, other)) if isinstance(one, Tensor) else bool(one == other)


def content(backend: Backend, state: Any) -> Content:
    return Content(backend.export(state), backend.counters(state))


Call = Callable[[], Any]
Stage = Callable[[Backend, Any], Call]  # what it is given is made before, so that errors come in the stage itself


def _lookup(*ids: int, **mode: bool) -> Stage:
    def stage(backend: Backend, state: Any) -> Call:
        return partial(backend.lookup, state, *keys(*ids), mode=LookupMode(**mode), clock=Clock(5, 5))

    return stage


def _embed(backend: Backend, state: Any) -> Call:
    ids = torch.tensor([3, 70, 70, 1, 71, 72, 2, 90], dtype=torch.int64)
    weighted = Request("mean", torch.tensor([0, 2, 3]), torch.ones(3))
    call = LookupCall(ids, (3, 5), (0, 1), (weighted, Request("sum", torch.tensor([0, 4, 5]))))
    return partial(backend.embed, state, call, mode=LookupMode(), clock=Clock(5, 5), weights_need_grad=(True, False))


def _update(backend: Backend, state: Any) -> Call:
    gradient = gradient_of(backend, state, *keys(*range(5)))
    return partial(backend.update, state, gradient, ADAM, hyper=HYPER, factor=0.5, t=(2, 2, 2))


def _write_rows(backend: Backend, state: Any) -> Call:
    weights, slots = backend.read_rows(state, torch.tensor([1, 3, 10], dtype=torch.int32))
    other = {name: values + 2 for name, values in slots.items()}
    return partial(backend.write_rows, state, torch.tensor([10, 1, 3], dtype=torch.int32), weights + 1, other)


def _write_slot(backend: Backend, state: Any) -> Call:
    return partial(backend.write_slot, state, "m", torch.tensor([4, -1, 2], dtype=torch.int32), torch.ones(3, 3))


def _erase(backend: Backend, state: Any) -> Call:
    return partial(backend.erase, state, *keys(*range(0, 33, 2)))


def _erase_crowd(backend: Backend, state: Any) -> Call:
    crowd = torch.from_numpy(CROWD[::2].copy())
    return partial(backend.erase, state, crowd, 0 * crowd.int())


def _add_slots(backend: Backend, state: Any) -> Call:
    return partial(backend.add_slots, state, (*SLOTS, SlotSpec("new", 3, 0.125), SlotSpec("newer", 1)))


def _restored(backend: Backend, state: Any) -> Call:
    """Ids that are here and ids that are not, the placement dropped."""
    n = 12
    weights = torch.linspace(0, 1, 3 * n).reshape(n, 3).to(getattr(torch, state.spec.dtype))
    given = Snapshot(*keys(*range(25, 25 + n)), weights, {"m": torch.ones(n, 3)}, stamps=torch.full((n,), 7).int())
    return partial(backend.restore, state, given)


STAGES: dict[str, Stage] = {
    "new_and_known": _lookup(*range(28, 38)),
    "many_new": _lookup(*range(20, 90)),
    "known": _lookup(*range(5)),
    "unknown": _lookup(*range(30, 50), insert=False),
    "embed": _embed,
    "update": _update,
    "write_rows": _write_rows,
    "write_slot": _write_slot,
    "erase": _erase,
    "erase_crowd": _erase_crowd,
    "add_slots": _add_slots,
    "restore": _restored,
}


def attempt(call: Call) -> str:
    """The stage, or what it says of a table that is full."""
    try:
        call()
    except TableFull:
        return "full"
    return "done"


def emptied_and_placed(backend: Backend, kind: str) -> tuple[Any, Stage]:
    """A table that all ids left, and the stage that gives it another's content and placement."""
    full = lived_in(backend, kind)
    saved = backend.export(full)
    given = replace(saved, slots={"m": saved.slots["m"]})
    backend.erase(full, saved.ids, saved.tables)
    return full, lambda b, state: partial(b.restore, state, given)


def twin(state: Any) -> Any:
    device = getattr(state, "device", None)  # jax's are not copied
    return copy.deepcopy(state, {id(device): device})
