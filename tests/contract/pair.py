"""A backend's table and the reference table, led through the same calls and compared after each.

Sizes: N ids, U unique ids, D dim.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from recis_core.backends import (
    Backend,
    Clock,
    Evicted,
    LookupCall,
    LookupMode,
    Request,
    SlotSpec,
    TableSpec,
    UpdateRule,
)
from recis_core.backends.errors import TableFull
from recis_core.backends.initial_values import Distribution
from tests.contract.cases import UIDS, Bags, Case
from tests.contract.compare import assert_close, assert_same, assert_same_placement, assert_same_table
from tests.reference import pooling, rules, snapshots
from tests.reference.table import Entry, ReferenceTable

SEED = 0x1234_5678_9ABC_DEF0
UNIFORM = Distribution("uniform", -1.0, 1.0)


def make_spec(dim: int = 8, **changes) -> TableSpec:
    return TableSpec(**{"dim": dim, "uids": UIDS, "seed": SEED, "distribution": UNIFORM, "rows": 96} | changes)


def tensors(ids: np.ndarray, tables: np.ndarray) -> tuple[Tensor, Tensor]:
    """ids int64 and ordinals int32, as backends take them."""
    return torch.from_numpy(np.array(ids, np.int64)), torch.from_numpy(np.array(tables, np.int32))


def make_call(case: Case) -> LookupCall:
    ids, _ = tensors(case.ids, case.ordinals)
    lengths = tuple(len(ids) for ids, _ in case.features)
    return LookupCall(ids, lengths, tuple(t for _, t in case.features), tuple(map(_request, case.requests)))


def _request(bags: Bags) -> Request:
    weights = None if bags.weights is None else torch.from_numpy(bags.weights)
    return Request(bags.combiner, torch.from_numpy(bags.offsets), weights, bags.tile_len)


def unique_keys(ids: np.ndarray, tables: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(ids [U], ordinals [U], inverse [N]), ascending by (ordinal, id)."""
    both = np.stack([tables.astype(np.int64), ids], 1).reshape(len(ids), 2)
    unique, inverse = np.unique(both, axis=0, return_inverse=True)
    return unique[:, 1].copy(), unique[:, 0].astype(np.int32), inverse.reshape(-1)


def by_key(ids: Tensor, tables: Tensor) -> np.ndarray:
    """The order that sorts keys by (ordinal, id)."""
    return np.lexsort((ids.numpy(), tables.numpy()))


class Pair:
    """`compute` is the reference's arithmetic: float32 to compare bits, float64 to compare sums."""

    def __init__(
        self, backend: Backend, spec: TableSpec, slots: tuple[SlotSpec, ...] = (), compute: type = np.float32
    ) -> None:
        self.backend, self.spec = backend, spec
        self.state, self.reference = backend.create(spec), ReferenceTable(spec, compute)
        if slots:
            self.add_slots(slots)

    def add_slots(self, slots: tuple[SlotSpec, ...]) -> None:
        self.state = self.backend.add_slots(self.state, slots)
        self.reference.add_slots(slots)

    def lookup(
        self,
        ids: np.ndarray,
        tables: np.ndarray,
        mode: LookupMode = LookupMode(),  # noqa: B008
        clock: Clock = Clock(),  # noqa: B008
    ) -> Tensor:
        """Rows, equal on both sides; evictions too. Where the reference's table is full, the backend's must be."""
        try:
            want, lost = self.reference.lookup(ids, tables, mode, clock)
        except TableFull:
            self._expect_full(ids, tables, mode, clock)
            raise
        self.state, rows, evicted = self.backend.lookup(self.state, *tensors(ids, tables), mode=mode, clock=clock)
        assert_same("rows", rows, torch.from_numpy(want))
        self.check_evicted(evicted, lost)
        return rows

    def _expect_full(self, ids: np.ndarray, tables: np.ndarray, mode: LookupMode, clock: Clock) -> None:
        """TableFull is raised at once or, on JAX, at the call after, in the same words; the table is as before."""
        with pytest.raises(
            TableFull, match=r"^\d+ new ids need rows; the table has \d+ in use of max_rows=.*Raise max_r"
        ):
            self._lookup_twice(*tensors(ids, tables), mode, clock)
        self.check()

    def _lookup_twice(self, ids: Tensor, tables: Tensor, mode: LookupMode, clock: Clock) -> None:
        self.state, *_ = self.backend.lookup(self.state, ids, tables, mode=mode, clock=clock)
        still = LookupMode(insert=False, touch=False)
        self.backend.lookup(self.state, ids, tables, mode=still, clock=clock)

    def check_evicted(self, evicted: Evicted | None, lost: list[Entry]) -> None:
        """What came back is what the reference's victims held. None stands for nobody, too."""
        if evicted is None:
            assert not lost, f"{len(lost)} evictions were not reported"
            return
        uids = np.asarray(self.spec.uids)[evicted.tables.numpy()]
        got = list(zip(uids.tolist(), evicted.ids.tolist(), evicted.rows.tolist(), strict=True))
        assert got == [(*entry.key, entry.row) for entry in lost]
        assert_same("evicted weights", evicted.weights, self._stacked([e.weights for e in lost]).to(evicted.weights))
        for name, values in evicted.slots.items():
            assert_same(f"evicted {name}", values, self._stacked([e.slots[name] for e in lost], values.shape[1]))

    def _stacked(self, arrays: list[np.ndarray], width: int | None = None) -> Tensor:
        return torch.from_numpy(np.array(arrays, np.float32).reshape(len(arrays), width or self.spec.dim))

    def erase(self, ids: np.ndarray, tables: np.ndarray) -> None:
        self.reference.erase(ids, tables)
        self.state = self.backend.erase(self.state, *tensors(ids, tables))

    def update(
        self, ids: np.ndarray, tables: np.ndarray, values: np.ndarray, rule: UpdateRule, hyper: np.ndarray, **rest
    ) -> None:
        """One step on known keys. rest: factor, t."""
        rows, _ = self.reference.lookup(ids, tables, LookupMode(insert=False, touch=False), Clock())
        gradient = self.backend.gradient(
            self.state, *tensors(ids, tables), torch.from_numpy(rows), torch.from_numpy(values.astype(np.float32))
        )
        self.state = self.backend.update(self.state, gradient, rule, hyper=hyper, **rest)
        rules.update(self.reference, ids, tables, values, rule, hyper, **rest)

    def check_placement(self) -> None:
        assert_same_placement(self.backend.export(self.state), snapshots.export(self.reference))

    def check(self) -> None:
        """The same table, bit by bit, and the same counters."""
        assert_same_table(self.backend.export(self.state), snapshots.export(self.reference))
        assert self.backend.counters(self.state) == self.reference.counters()

    def check_keys(self, most: int = 100) -> None:
        """Keys by place, in windows of so many places; and how many each logical table has."""
        parts, start = [], 0
        while start >= 0:
            *part, start = self.backend.keys_from(self.state, start, most)
            assert len(part[0]) <= most
            parts.append(part)
        want = snapshots.export(self.reference)
        place = torch.where(want.slot_numbers < 0, 2**40 - want.slot_numbers, want.slot_numbers)
        order = place.argsort()
        columns = {"ids": want.ids, "tables": want.tables, "rows": want.row_numbers}
        for (name, expected), got in zip(columns.items(), zip(*parts, strict=True), strict=True):
            assert_same(name, torch.cat(list(got)), expected[order])
        counts = torch.bincount(want.tables, minlength=len(self.spec.uids))
        assert self.backend.rows_by_table(self.state) == tuple(counts.tolist())

    def check_values(self, dtype: torch.dtype = torch.float32) -> None:
        """The same placement; weights and slots within the forward tolerance of a float64 reference."""
        got = self.backend.export(self.state)
        assert_same_placement(got, snapshots.export(self.reference))
        entries = [self.reference.entries[key] for key in sorted(self.reference.entries)]
        assert_close("weights", got.weights, np.array([e.weights for e in entries]), dtype)
        for name, values in got.slots.items():
            assert_close(name, values, np.array([e.slots[name] for e in entries]), torch.float32)

    def embed(self, case: Case, mode: LookupMode = LookupMode(), clock: Clock = Clock()) -> Embedded:  # noqa: B008
        """A whole call on both sides, outputs compared."""
        ids, tables, inverse = unique_keys(case.ids, case.ordinals)
        _, lost = self.reference.lookup(ids, tables, mode, clock, incoming=len(case.ids))
        need = tuple(bags.weights is not None for bags in case.requests)
        self.state, outputs, saved, evicted = self.backend.embed(
            self.state, make_call(case), mode=mode, clock=clock, weights_need_grad=need
        )
        self.check_evicted(evicted, lost)
        rows = self.reference.gather(ids, tables, mode.unknown)
        for bags, run, out in zip(case.requests, runs(case), outputs, strict=True):
            want = pooling.pool(rows, inverse[run], bags.offsets, bags.weights, bags.combiner, bags.tile_len)
            assert_close(f"{case} {bags.combiner}", out, want, torch.float32)
        return Embedded(self, case, outputs, saved, (ids, tables, inverse, rows))


def runs(case: Case) -> list[slice]:
    """Each request's run of the call's ids."""
    ends = np.cumsum([int(bags.offsets[-1]) for bags in case.requests])
    return [slice(end - int(bags.offsets[-1]), end) for end, bags in zip(ends.tolist(), case.requests, strict=True)]


class Embedded:
    """A forward, and the check of its backward."""

    def __init__(self, pair: Pair, case: Case, outputs: list[Tensor], saved, keys: tuple) -> None:
        self.pair, self.case, self.outputs, self.saved = pair, case, outputs, saved
        self.ids, self.tables, self.inverse, self.rows = keys

    def grads(self, dtype: torch.dtype = torch.float32, seed: int = 3) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return [torch.randn(out.shape, generator=generator).to(dtype) for out in self.outputs]

    def check_grad(self, grads: list[Tensor | None]):
        """embed_grad against float64; the Gradient."""
        gradient, to_weights = self.pair.backend.embed_grad(self.saved, grads)
        want, want_weights = self.expected(grads)
        for bags, got, expected in zip(self.case.requests, to_weights, want_weights, strict=True):
            assert (got is None) == (bags.weights is None), "weights' gradients as asked"
            if got is not None:
                assert_close("gradient to weights", got, expected, torch.float32, gradient=True)
        if gradient is not None or len(self.ids):
            self.check_values(gradient, want)
        return gradient

    def check_values(self, gradient, want: np.ndarray) -> None:
        ids, tables, rows, values = self.pair.backend.read_gradient(gradient)
        order = by_key(ids, tables)
        placed = [self.pair.reference.entries[key].row for key in self.pair.reference.keys(self.ids, self.tables)]
        assert_same("gradient ids", ids[order], torch.from_numpy(self.ids))
        assert_same("gradient ordinals", tables[order], torch.from_numpy(self.tables))
        assert_same("gradient rows", rows[order], torch.tensor(placed, dtype=torch.int32))
        assert_close("gradient", values[order], want, torch.float32, gradient=True)

    def expected(self, grads: list[Tensor | None]) -> tuple[np.ndarray, list[np.ndarray]]:
        to_rows, to_weights = np.zeros(self.rows.shape), []
        for bags, run, out, grad in zip(self.case.requests, runs(self.case), self.outputs, grads, strict=True):
            grad = torch.zeros_like(out) if grad is None else grad
            to_row, to_weight = pooling.pool_grad(
                grad.double().numpy(), self.rows, self.inverse[run], bags.offsets, bags.weights, bags.combiner,
                bags.tile_len,
            )  # fmt: skip
            to_rows += to_row
            to_weights.append(to_weight)
        return to_rows, to_weights
