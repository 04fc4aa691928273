"""HashTableFilterHook and filters, over steps that it counts itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from recis_core.compat.recis.hooks import HashTableFilterHook
from recis_core.compat.recis.nn import EmbeddingEngine, EmbeddingOption
from recis_core.compat.recis.nn.hashtable_hook import FilterHook
from recis_core.compat.recis.nn.initializers import ConstantInitializer
from recis_core.compat.recis.nn.modules.hashtable import HashTable
from recis_core.compat.recis.nn.modules.hashtable_hook_impl import BaseFilterHookImpl, HashtableHookFactory
from recis_core.compat.recis.nn.modules.step_clock import StepClock


@pytest.fixture(autouse=True)
def _no_filters_of_other_tests() -> Iterator[None]:
    HashtableHookFactory().get_filters().clear()
    yield
    HashtableHookFactory().get_filters().clear()


def filtered(table: str, **params: object) -> HashTable:
    return HashTable(
        [1], 4, initializer=ConstantInitializer(3.0), name=table, filter_hook=FilterHook("GlobalStepFilter", params)
    )


def test_rows_go_once_unused_for_more_than_filter_step_steps(fresh) -> None:
    table, hook = filtered(fresh("t"), filter_step=1), HashTableFilterHook(1)
    steps = table.slot_group().slot_by_name("step_filter")
    seen = []
    for step, ids in enumerate([[1, 2], [1, 2], [2], [2], [2]]):
        table(torch.tensor(ids))
        hook.after_step(None, step)
        seen.append(table.ids().tolist())
    assert seen == [[1, 2], [1, 2], [2], [2], [2]]
    numbers = dict(zip(*(x.tolist() for x in table.ids_map()), strict=True))
    assert steps.value()[numbers[2]].item() == 4
    assert steps.value()[1 - numbers[2]].item() == 1  # a deleted row keeps its last
    assert table.embeddings()[1 - numbers[2]].item() == 3.0  # and begins anew
    assert table._filter_hook_impl._global_step.tolist() == [5]


def test_defaults_names_and_wrong_hooks(fresh) -> None:
    table = filtered(fresh("t"), name="mine")
    assert table._filter_hook_impl._filter_step == 100
    assert table.slot_group().slot_by_name("mine").value().dtype == torch.int64
    assert FilterHook("GlobalStepFilter").type == "filter"
    with pytest.raises(ValueError, match="filter_step must be at least 1"):
        filtered(fresh("t"), filter_step=0)
    with pytest.raises(ValueError, match="no filter_hook 'Nothing'"):
        HashTable([1], name=fresh("t"), filter_hook=FilterHook("Nothing"))


def test_the_interval_begins_at_the_first_step_that_is_not_zero(fresh) -> None:
    table, hook = filtered(fresh("t"), filter_step=1), HashTableFilterHook(3)
    left = []
    for step in range(8):
        table(torch.tensor([step]))
        hook.after_step(None, torch.tensor(step))
        left.append(len(table.ids()))
    assert left == [1, 2, 3, 4, 1, 2, 3, 1]
    hook.reset_filter_interval(None)
    hook.after_step(None, 1000)
    assert len(table.ids()) == left[-1]


class Odd(BaseFilterHookImpl):
    """Deletes odd ids, and counts the rows that it hears of."""

    def __init__(self, ht, **kwargs) -> None:
        super().__init__(ht, "odd")
        self.heard = 0

    def update(self, index) -> None:
        self.heard += len(index)

    def filter(self, ids, index):
        return ids[ids % 2 == 1], index[ids % 2 == 1]


def test_a_filter_of_ones_own_hears_of_lookups_and_deletes(fresh) -> None:
    kind = fresh("Odd")
    HashtableHookFactory().regist_filter(kind, Odd)
    with pytest.raises(ValueError, match="registered already"):
        HashtableHookFactory().regist_filter(kind, Odd)
    table = HashTable([1], name=fresh("t"), filter_hook=FilterHook(kind))
    table(torch.tensor([1, 2, 3]))
    table._filter_hook_impl.do_filter()
    assert (table._filter_hook_impl.heard, table.ids().tolist()) == (3, [2])
    option = EmbeddingOption(1, shared_name=fresh("t"), filter_hook=FilterHook(kind))
    engine = EmbeddingEngine({"f": option})
    for ids in ([[1, 2]], [[3, 3]]):
        engine({"f": torch.tensor(ids)})
    HashTableFilterHook(1).after_step(None, 1)
    own = next(iter(engine._ht.values()))._hashtable
    own._filter_hook_impl.do_filter()
    assert (own._filter_hook_impl.heard, own.ids().tolist()) == (3, [2])


def test_features_of_a_group_are_filtered_together(fresh) -> None:
    hook = FilterHook("GlobalStepFilter", {"filter_step": 1})
    options = {f: EmbeddingOption(2, shared_name=fresh(f), filter_hook=hook) for f in ("a", "b")}
    engine, steps = EmbeddingEngine(options), HashTableFilterHook(1)
    for step in range(5):
        engine({"a": torch.tensor([[1]])} | ({"b": torch.tensor([[7]])} if step < 2 else {}))
        steps.after_step(None, step)
    assert engine._ht[engine._fea_to_ht["a"]]._hashtable.ids().tolist() == [1]


def test_a_clock_reads_stamps_as_steps_and_back() -> None:
    class Table:
        step, lock = 0, threading.RLock()

    clock, table = StepClock(keep=2), Table()
    for advance in (1, 0, 3, 1, 1):  # optimizer steps in each of RecIS's steps
        table.step += advance
        clock.next(table)
    stamps = torch.arange(0, table.step + 1, dtype=torch.int32)
    assert (clock.now, table.step) == (5, 7)
    assert clock.of(stamps).tolist()[-4:] == [2, 3, 4, 5]
    back = clock.stamps(clock.of(stamps[-3:]))
    assert clock.of(back).tolist() == clock.of(stamps[-3:]).tolist()
