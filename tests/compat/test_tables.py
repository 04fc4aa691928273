"""A bare HashTable: RecIS's order of arguments, defaults, rows by number, gradients."""

from __future__ import annotations

import pytest
import torch

from recis_core.compat.recis.nn.hashtable_hook import AdmitHook
from recis_core.compat.recis.nn.initializers import ConstantInitializer
from recis_core.compat.recis.nn.modules.hashtable import (
    HashTable,
    filter_out_sparse_param,
    gen_slice,
    split_sparse_dense_state_dict,
)
from recis_core.compat.recis.optim import SparseAdamW


def test_positional_arguments_stand_in_recis_order(fresh) -> None:
    table = HashTable(
        [4],
        8,
        torch.float32,
        torch.device("cpu"),
        False,
        None,
        gen_slice(0, 2),
        ConstantInitializer(2.0),
        fresh("t"),
        "id",
    )
    assert table(torch.tensor([5, 6])).tolist() == [[2.0] * 4] * 2
    assert (table.coalesce, table.device.type, str(table).startswith("HashTable_t")) == (False, "cpu", True)


def test_rows_begin_at_zero_and_have_as_many_dimensions_as_asked(fresh) -> None:
    table = HashTable([2, 3], name=fresh("t"))
    assert table(torch.tensor([[1, 2]])).shape == (1, 2, 2, 3)
    assert not table(torch.tensor([7])).any()


def test_embeddings_come_by_row_number_with_spare_rows(fresh) -> None:
    table = HashTable([1], 4, name=fresh("t"))
    table.insert(torch.arange(5), torch.arange(5.0)[:, None])
    assert table.embeddings()[:, 0].tolist() == [4, 3, 2, 1, 0, 0, 0, 0]  # the first new id gets the highest number
    ids, numbers = table.ids_map()
    assert dict(zip(ids.tolist(), numbers.tolist(), strict=True)) == {0: 4, 1: 3, 2: 2, 3: 1, 4: 0}
    slot = table.slot_group().slot_by_name("embedding")
    assert (slot.name(), slot.block_size(), slot.flat_size()) == ("embedding", 4, 1)
    assert [len(block) for block in slot.values()] == [4, 4]
    with pytest.raises(KeyError, match="no slot 'm'"):
        table.slot_group().slot_by_name("m")


def test_what_is_written_into_values_is_in_the_table(fresh) -> None:
    """By any in-place operation, on views and by `out`; reads and results of other operations are plain."""
    table = HashTable([2], 4, name=fresh("t"))
    optimizer = SparseAdamW({"t": table._hashtable_impl}, lr=0.1)
    table(torch.arange(5)).sum().backward()
    optimizer.step()
    numbers = dict(zip(*(x.tolist() for x in table.ids_map()), strict=True))
    group = table.slot_group()
    first, second = group.slot_by_name("embedding").values()
    first.fill_(3)
    second[0, 1] = 7
    first[1].view(-1).data.mul_(2)
    torch.add(first[2], 1, out=first[2])
    rows = table(torch.arange(5)).detach()
    assert type(rows) is type(first * 2) is torch.Tensor
    want = {0: [3, 3], 1: [6, 6], 2: [4, 4], 3: [3, 3]}
    for id_, number in numbers.items():
        got = rows[id_].tolist()
        assert got == want[number] if number < 4 else got[1] == 7
    assert torch.equal(table.embeddings()[:4], first)
    moments = group.slot_by_name("sparse_adamw_exp_avg").values()[0]
    before = group.slot_by_name("sparse_adamw_exp_avg_sq").value()
    moments.zero_()
    assert not group.slot_by_name("sparse_adamw_exp_avg").value()[:4].any()
    assert torch.equal(group.slot_by_name("sparse_adamw_exp_avg_sq").value(), before)
    assert torch.equal(table.embeddings()[:4], first), "a slot's write leaves the rows alone"
    copy = group.slot_by_name("embedding").value()
    copy.fill_(9)
    first.numpy()[:] = 9
    assert not (table.embeddings() == 9).any(), "value() and numpy() are copies"


def test_a_deleted_rows_number_is_given_again(fresh) -> None:
    table = HashTable([1], 4, name=fresh("t"))
    table(torch.arange(3))
    before = dict(zip(*(x.tolist() for x in table.ids_map()), strict=True))
    table._hashtable_impl.delete(torch.tensor([1]))
    table(torch.tensor([9]))
    assert dict(zip(*(x.tolist() for x in table.ids_map()), strict=True)) == {0: before[0], 2: before[2], 9: before[1]}


def test_readonly_lookups_and_eval_insert_nothing(fresh) -> None:
    table = HashTable([2], name=fresh("t"))
    assert not table(torch.tensor([1, 2]), admit_hook=AdmitHook("ReadOnly")).any()
    table.eval()(torch.tensor([3]))
    assert table.ids().tolist() == []


def test_two_tables_of_one_name_raise_in_a_process(fresh) -> None:
    name = fresh("t")
    HashTable([2], name=name)
    with pytest.raises(ValueError, match=f"table '{name}' was made in this process before"):
        HashTable([2], name=name)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int8, torch.int32, torch.int64])
def test_other_dtypes_are_refused(fresh, dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match=f"float32 or bfloat16 here; got dtype={dtype}"):
        HashTable([2], dtype=dtype, name=fresh("t"))


def test_grad_is_sparse_and_places_replace_row_numbers_where_one_repeats(fresh) -> None:
    table = HashTable([4], name=fresh("t"))
    table.accept_grad(torch.tensor([1, 2, 3]), torch.ones(3, 4))
    assert table.grad().coalesce().indices().tolist() == [[1, 2, 3]]
    table.accept_grad(torch.tensor([1, 1, 1]), torch.full((3, 4), 2.0))
    table.accept_grad(torch.tensor([2, 2, 2]), torch.full((3, 4), 3.0))
    mean = table.grad(3).coalesce()
    assert mean.indices().tolist() == [[0, 1, 2]]
    torch.testing.assert_close(mean.values()[:, 0] * 3, torch.tensor([7.0, 10.0, 1.0]))
    table.clear_grad()
    assert table.grad()._nnz() == 0


def test_a_gradient_of_rows_with_ids_reaches_the_step(fresh) -> None:
    table = HashTable([1], name=fresh("t"))
    table(torch.tensor([7, 8]))
    ids, numbers = table.ids_map()
    optimizer = SparseAdamW({"t": table._hashtable_impl}, lr=0.5, weight_decay=0)
    table.accept_grad(numbers[ids == 7], torch.ones(1, 1))
    optimizer.step()
    values = table(torch.tensor([7, 8])).detach()[:, 0]
    torch.testing.assert_close(values, torch.tensor([-0.5, 0.0]), rtol=0, atol=1e-6)


def test_grad_reduce_by_id_of_a_bare_table_is_the_mean_of_occurrences(fresh) -> None:
    table = HashTable([1], name=fresh("t"), grad_reduce_by="id")
    (table(torch.tensor([3, 3, 4])) * torch.tensor([[1.0], [3.0], [5.0]])).sum().backward()
    table._hashtable_impl.physical.sync()
    ids, _, _, values = table._hashtable_impl.physical.gradient()
    assert dict(zip(ids.tolist(), values[:, 0].tolist(), strict=True)) == {3: 2.0, 4: 5.0}


def test_a_gradient_is_divided_by_world_size_though_ranks_share_no_rows(fresh, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    table = HashTable([1], name=fresh("t"))
    table(torch.tensor([3])).sum().backward()
    assert table.grad().coalesce().values().tolist() == [[0.25]]


def test_state_dicts_hold_tables_by_name_beside_dense_parameters(fresh) -> None:
    one, two = fresh("one"), fresh("two")
    model = torch.nn.ModuleDict(
        {"a": HashTable([2], name=one), "b": HashTable([2], name=two), "dense": torch.nn.Linear(2, 1)}
    )
    assert list(filter_out_sparse_param(model)) == [one, two]
    sparse, dense = split_sparse_dense_state_dict(model.state_dict())
    assert (list(sparse), list(dense)) == ([one, two], ["dense.weight", "dense.bias"])


@pytest.mark.parametrize(
    ("shard", "shards", "slice_"), [(0, 1, (0, 65536)), (1, 3, (21846, 43691)), (2, 3, (43691, 65536))]
)
def test_slices_differ_by_one_at_most(shard: int, shards: int, slice_: tuple[int, int]) -> None:
    made = gen_slice(shard, shards)
    assert (made.slice_begin, made.slice_end, made.slice_size) == (*slice_, 65536)
