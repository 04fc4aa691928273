"""Rows of sources in a model's tables: names, slots, t, tiers, and what does not fit."""

import pytest
import torch

from recis_core.errors import StateMismatch
from recis_core.nn import CacheConfig, EmbeddingEngine, EmbeddingOption, HashTable
from recis_core.optim import SparseAdagrad, SparseAdamW
from recis_core.serialize import (
    arrays_source,
    load_tables_from,
    new_checkpoint,
    recis_source,
    save_state,
    state_source,
    torchrec_source,
)
from recis_core.serialize.imports.selection import selected
from recis_core.serialize.tables import snapshot_tables
from tests.serialize.imports import recis_files


def item(name="item", dim=recis_files.DIM, **options):
    return HashTable([dim], name=name, backend="torch", **options)


def test_recis_bit_for_bit_with_slots_and_t(tmp_path):
    source = recis_source(recis_files.write(tmp_path / "ckpt"))
    table = item()
    optimizer = SparseAdamW({"item": table})
    table.insert(torch.tensor([2, 99]), torch.ones(2, recis_files.DIM))
    found = load_tables_from(source, {"item": table}, optimizer=optimizer)
    assert (found.rows, found.fresh, found.unused, found.slots_anew) == ({"item": 5}, (), ("user.id",), {})
    ids = table.ids()
    assert ids.tolist() == [-6, 2, 7, 99, 2**40, 2**51 + 1]
    theirs = ids != 99
    assert torch.equal(table.embeddings()[theirs], recis_files.rows_of(ids[theirs], 0))
    assert torch.equal(table.slot_group().slot_by_name("m")[theirs], recis_files.rows_of(ids[theirs], 10))
    assert torch.equal(table.slot_group().slot_by_name("v")[theirs], recis_files.rows_of(ids[theirs], 20))
    assert optimizer.state_dict()["t"] == {"item": recis_files.T}
    load_tables_from(source, {"item": table}, replace=True)
    assert 99 not in table


def test_another_optimizer_starts_anew_and_says_so(tmp_path):
    source = recis_source(recis_files.write(tmp_path / "ckpt"))
    table = item(dtype=torch.bfloat16)
    SparseAdagrad({"item": table}, initial_accumulator_value=0.5)  # kept by nobody: the table has none then
    optimizer = SparseAdagrad({"item": table}, initial_accumulator_value=0.5)
    found = load_tables_from(source, {"item": table})
    assert found.slots_anew == {"item": ("sum",)}
    assert table.slot_group().slot_names() == ["sum"]
    assert bool((table.slot_group().slot_by_name("sum") == 0.5).all())
    assert table.embeddings().dtype == torch.bfloat16
    assert optimizer.state_dict()["t"] == {"item": 0}
    with pytest.raises(TypeError, match=r"optimizer must be a sparse one.*\.sparse"):
        load_tables_from(source, {"item": table}, optimizer=torch.optim.SGD([torch.ones(1, requires_grad=True)]))


def test_slots_of_another_width_start_anew():
    state = {
        "embedding_bags.item.weight": torch.ones(3, 4),
        "o": {"embedding_bags.item.weight": {"item.momentum1": torch.ones(3)}},
    }
    table = item()
    optimizer = SparseAdagrad({"item": table})
    assert load_tables_from(torchrec_source(state), {"item": table}).slots_anew == {"item": ("sum",)}
    assert optimizer.state_dict()["t"] == {"item": 0}


def test_into_a_disk_tier(tmp_path):
    ids, rows = torch.arange(3000) * 7, torch.arange(3000 * 4).reshape(3000, 4).float()
    cache = CacheConfig(device_rows=256, host_rows=512, disk=str(tmp_path / "disk"))
    engine = EmbeddingEngine({"item": EmbeddingOption(4, cache=cache, backend="torch")})
    found = load_tables_from(arrays_source("item", ids, rows), engine)
    assert found.rows == {"item": 3000}
    [table] = engine.sparse_parameters().values()
    assert torch.equal(table.lookup(ids)[0], rows)


def test_an_error_leaves_a_replaced_table_as_it_was():
    table = item()
    table.insert(torch.tensor([1]), torch.ones(1, 4))
    bad = torch.zeros(200_000, 4)
    bad[-1, 0] = float("inf")
    with pytest.raises(StateMismatch, match=r"row 199999 of table 'item', id 199999, holds NaN or inf"):
        load_tables_from(arrays_source("item", range(200_000), bad), {"item": table}, replace=True)
    assert table.ids().tolist() == [1]
    assert load_tables_from(arrays_source("item", range(3), bad[-3:]), {"item": table}, non_finite="skip").rows == {
        "item": 2
    }


def test_what_does_not_fit(tmp_path):
    source = recis_source(recis_files.write(tmp_path / "ckpt"))
    with pytest.raises(StateMismatch, match="rows of table 'item' have dim 4; table 'item' of the model has 3"):
        load_tables_from(source, {"item": item(dim=3)})
    with pytest.raises(StateMismatch, match="its tables are item, user.id, the model's query"):
        load_tables_from(source, {"query": item("query")})
    table = item("query")
    assert load_tables_from(source, {"query": table}, rename={"item": "query"}).rows == {"query": 5}


def test_names_and_patterns():
    def pairs(load=("*",), exclude=(), **rename):
        return selected(["emb_a", "emb_b", "x"], ["a", "b", "x", "y"], load, exclude, rename, "here")

    assert pairs() == {"x": "x"}
    assert pairs(**{"emb_*": "*"}) == {"a": "emb_a", "b": "emb_b", "x": "x"}
    assert pairs(load=("*a", "x"), **{"emb_*": "*"}) == {"a": "emb_a", "x": "x"}
    assert pairs(exclude=("emb_[a]", "x*"), **{"emb_*": "*"}) == {"b": "emb_b"}
    with pytest.raises(StateMismatch, match="tables 'emb_a' and 'x' both become 'x'"):
        pairs(emb_a="x")
    with pytest.raises(StateMismatch, match="here has no table 'z'; it has emb_a, emb_b, x"):
        pairs(load=("z",))
    with pytest.raises(StateMismatch, match="has no table 'c_\\*'"):
        pairs(**{"c_*": "*"})
    with pytest.raises(ValueError, match="one \\* on both sides"):
        pairs(**{"emb_*": "a"})


def test_our_own_states_and_checkpoints(tmp_path):
    tables = {"item": item(), "user": item("user", 3)}
    optimizer = SparseAdamW(tables)
    for name, n in (("item", 5), ("user", 2)):
        ids = torch.arange(n) * 3 - 4
        tables[name](ids).sum().backward()
    optimizer.step()
    state = snapshot_tables(tables)
    save_state(tmp_path / "state", 7, {**state, "optimizer": optimizer.state_dict(), "dense": {"w": torch.ones(2)}})
    source = state_source(tmp_path / "state")
    assert (source.step, sorted(source.tables)) == (7, ["item", "user"])
    assert source.dense()["w"].tolist() == [1, 1]
    with new_checkpoint(tmp_path / "checkpoint", 7) as writer:
        for name, table in source.tables.items():
            writer.table(name, table.blocks(2), dim=table.dim, dtype=table.dtype)
        writer.part("optimizer", optimizer.state_dict())
    again = state_source(tmp_path / "checkpoint")
    assert again.tables["item"].t == 1
    for found in (source, again):
        others = {"item": item(), "user": item("user", 3)}
        theirs = SparseAdamW(others)
        load_tables_from(found, others, optimizer=theirs)
        for name, table in tables.items():
            assert (found.tables[name].rows, found.tables[name].slots) == (len(table.ids()), ("m", "v"))
            for one, other in zip(_whole(table), _whole(others[name]), strict=True):
                assert torch.equal(one, other)


def _whole(table):
    snapshot = table.snapshot()
    return [snapshot.ids, snapshot.weights, snapshot.slots["m"], snapshot.slots["v"]]


def rank_part(ids, rows, sharding):
    """One rank's storage of a training state: table b is its second one."""
    ids = torch.tensor(ids)
    snapshot = {
        "ids": ids, "tables": torch.ones(len(ids), dtype=torch.int32), "weights": rows, "slots": {"m": rows + 1},
        "stamps": None, "scores": torch.arange(len(ids), dtype=torch.int32),
    }  # fmt: skip
    return {"names": ["a", "b"], "shardings": ["row", sharding], "snapshot": snapshot, "step": 3}


@pytest.mark.parametrize("sharding", ["row", "column", "replicated"])
def test_states_of_two_ranks(tmp_path, sharding):
    whole = torch.arange(12).reshape(3, 4).float()
    parts = {
        "row": [([5, 7], whole[:2]), ([9], whole[2:])],
        "column": [([5, 7, 9], whole[:, :1]), ([5, 7, 9], whole[:, 1:])],
        "replicated": [([5, 7, 9], whole)] * 2,
    }[sharding]
    state = {f"storage-0.rank-{rank}": rank_part(*part, sharding) for rank, part in enumerate(parts)}
    table = state_source(save_state(tmp_path, 3, state)).tables["b"]
    found = list(table.blocks(2))
    assert (table.dim, table.slots, table.rows) == (4, ("m",), None)
    assert torch.cat([block.ids for block in found]).tolist() == [5, 7, 9]
    assert torch.equal(torch.cat([block.rows for block in found]), whole)
    assert torch.equal(torch.cat([block.slots["m"] for block in found]), whole + 1)
    assert list(found[0].marks) == ["scores"]
