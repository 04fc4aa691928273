"""Each part of a saved state alone: what it saved, taken aside, changes nothing until `commit`, and then is in place."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from recis_core.backends import TableSpec, get
from recis_core.exchange.keys import SortedKeys
from recis_core.exchange.residuals import Residuals
from recis_core.exchange.state_parts import ResidualPart
from recis_core.nn import AdmitHook, FilterHook
from recis_core.table.admission.gate import Gate
from recis_core.table.admission.gate_part import GatePart
from recis_core.table.eviction.eviction import Eviction
from recis_core.table.eviction.eviction_part import EvictionPart

SPEC = TableSpec(4, (11, 12))
IDS = torch.tensor([3, -5, 2**52 + 1])


def keeps_odd(ids: Tensor, ordinal: int) -> Tensor:
    return ids % 2 == 1


def gate(counter: str = "exact") -> Gate:
    params = {"capacity": 64} if counter == "exact" else {"bytes": 4096}
    return Gate(AdmitHook("Frequency", {"threshold": 3, "counter": counter, **params}), SPEC)


def seen(of: Gate, times: int, ordinal: int = 0) -> list[bool]:
    ordinals = torch.full((len(IDS),), ordinal, dtype=torch.int32)
    return of.admit(IDS, ordinals, torch.full((len(IDS),), times), 1).tolist()


@pytest.mark.parametrize("counter", ["exact", "bloom"])
def test_a_gate_goes_on_counting_where_the_saved_one_was(counter: str) -> None:
    saved, mine = gate(counter), gate(counter)
    assert not any(seen(saved, 2))
    aside = GatePart(mine, keeps_odd).aside()
    aside.take(GatePart(saved, keeps_odd).saved())
    assert not any(seen(mine, 1)), "a part that is aside has changed the gate"
    aside.commit()
    assert all(seen(mine, 1))


def test_a_gate_takes_another_ranks_counts_of_its_own_ids_alone() -> None:
    saved, mine = gate(), gate()
    seen(saved, 2, ordinal=1)
    aside = GatePart(mine, keeps_odd).aside()
    aside.merge(GatePart(saved, keeps_odd).saved(), {1: 0})
    aside.commit()
    assert seen(mine, 1, ordinal=0) == [True, True, True]  # -5 % 2 is 1 in torch
    assert not any(seen(gate(), 1))


def test_a_gate_drops_the_memory_of_another_hook() -> None:
    saved, mine = gate("bloom"), gate()
    seen(saved, 2)
    aside = GatePart(mine, keeps_odd).aside()
    aside.take(GatePart(saved, keeps_odd).saved())
    aside.commit()
    assert not any(seen(mine, 2))


@pytest.mark.parametrize(("moved", "hook"), [(False, "TTL"), (True, "TTL"), (False, "LRU")])
def test_a_filter_takes_the_memory_of_its_own_hook(moved: bool, hook: str) -> None:
    ttl = FilterHook("TTL", {"seconds": 60.0})
    saved = Eviction(ttl, [1])
    saved.filter.finished(7)
    mine = Eviction(ttl if hook == "TTL" else FilterHook("LRU", {"max_rows": 2}), [1])
    before, aside = mine.state(), EvictionPart(mine).aside()
    state = EvictionPart(saved).saved()
    aside.merge(state, {0: 0}) if moved else aside.take(state)
    assert mine.state() == before
    aside.commit()
    assert mine.state() == (state if hook == "TTL" else before)


def residuals(budget: int = 1 << 16) -> Residuals:
    return Residuals(get("numba"), SPEC, 4, budget)


def test_residuals_are_read_back_by_key_and_another_ranks_are_not_taken() -> None:
    saved, mine = residuals(), residuals()
    ids, none = IDS.sort().values, torch.zeros(len(IDS), dtype=torch.int32)
    keys = SortedKeys(ids, none, none + 1, none, ((0, len(ids)),), torch.tensor([[len(ids)]]))
    left = torch.arange(12.0).reshape(3, 4) + 1
    saved.stage(keys, left)
    saved.commit()
    aside = ResidualPart(mine).aside()
    aside.merge(ResidualPart(saved).saved(), {0: 0})
    aside.commit()
    assert len(mine.snapshot().ids) == 0
    aside.take(ResidualPart(saved).saved())
    assert len(mine.snapshot().ids) == 0
    aside.commit()
    assert torch.equal(mine.read(keys)[0], left)
