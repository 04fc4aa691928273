"""RecIS's checkpoints: written, read, renamed, replaced."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from recis_core.backends.errors import CorruptCheckpoint, RecisError
from recis_core.compat.recis.hooks import HashTableFilterHook
from recis_core.compat.recis.nn.hashtable_hook import FilterHook
from recis_core.compat.recis.nn.modules.hashtable import HashTable, split_sparse_dense_state_dict
from recis_core.compat.recis.nn.modules.hashtable_hook_impl import HashtableHookFactory
from recis_core.compat.recis.optim import SparseAdamW
from recis_core.compat.recis.serialize import Loader, Saver
from recis_core.compat.recis.serialize.checkpoint_reader import CheckpointReader


def trained(name: str, steps: int = 3) -> tuple[HashTable, SparseAdamW]:
    table = HashTable([2], 4, name=name)
    optimizer = SparseAdamW({name: table._hashtable_impl}, lr=0.1)
    for step in range(steps):
        (table(torch.tensor([step, 7])) * torch.tensor([[1.0], [2.0]])).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return table, optimizer


def rows(table: HashTable, name: str = "embedding") -> dict[int, list[float]]:
    values = table.slot_group().slot_by_name(name).value()
    return {i: values[n].tolist() for i, n in zip(*(x.tolist() for x in table.ids_map()), strict=True)}


@pytest.mark.parametrize("parallel", [1, 4, 8])
def test_a_saved_table_is_stock_safetensors_with_json_beside(fresh, tmp_path: Path, parallel: int) -> None:
    name = fresh("t")
    table, _ = trained(name)
    Saver(0, 1, parallel, str(tmp_path), {"x": table._hashtable_impl}, {"one": torch.ones(2)}).save()
    index = json.loads((tmp_path / "index").read_text())
    found = {}
    for file in index["file_index"]:
        with safe_open(tmp_path / file, "pt") as opened:
            found |= {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118, no mapping
    assert set(found) == set(index["block_index"])
    ids, embeddings = found[f"{name}.id/part_0_1"], found[f"{name}.embedding/part_0_1"]
    assert dict(zip(ids.tolist(), embeddings.tolist(), strict=True)) == rows(table)
    assert found[f"{name}.sparse_adamw_exp_avg/part_0_1"].shape == (4, 2)
    assert len(json.loads((tmp_path / "tensorkey.json").read_text())) == 4
    reader = CheckpointReader(tmp_path)
    slots = ("id", "embedding", "sparse_adamw_exp_avg", "sparse_adamw_exp_avg_sq")
    assert reader.tensor_names() == sorted(["one", *(f"{name}@{slot}" for slot in slots)])
    assert (reader.tensor_shape("one"), reader.tensor_dtype(f"{name}@id")) == ([2], torch.int64)
    assert reader.read_tensor("one").tolist() == [1, 1]


def test_a_loaded_run_goes_on_as_if_it_had_not_stopped(fresh, tmp_path: Path) -> None:
    name = fresh("t")
    table, optimizer = trained(name)
    state = optimizer.state_dict()
    tables, numbers = split_sparse_dense_state_dict({**state})
    Saver(path=str(tmp_path), hashtables=tables, tensors=numbers).save()
    want, moments = rows(table), rows(table, "sparse_adamw_exp_avg")
    (table(torch.tensor([7, 99]))).sum().backward()
    optimizer.step()
    Loader(str(tmp_path), *split_sparse_dense_state_dict({**state})).load()
    optimizer.load_state_dict(state)
    after = rows(table)
    assert {i: after[i] for i in want} == want
    assert 99 in after  # rows that the checkpoint does not have stay
    assert {i: rows(table, "sparse_adamw_exp_avg")[i] for i in want} == moments
    assert set(optimizer._tables.t.values()) == {3}


def test_targets_may_be_renamed_or_left_out(fresh, tmp_path: Path, caplog) -> None:
    old, new = fresh("old"), fresh("new")
    table, _ = trained(old)
    Saver(path=str(tmp_path), hashtables={old: table._hashtable_impl}, tensors={"w": torch.ones(2)}).save()
    target, weight = HashTable([2], name=new), torch.zeros(2)

    def renamed(info):
        assert info == {new: {new: ["id", "embedding"]}, "v": {"v": []}}
        return {new: {old: info[new][new]}}

    Loader(str(tmp_path), {new: target._hashtable_impl}, {"v": weight}, filter_func=renamed).load()
    assert rows(target) == rows(table)
    Loader(str(tmp_path), {new: target._hashtable_impl}, {"v": weight}).load()
    assert "has no tensor 'v'" in caplog.text
    assert f"has no table '{new}'" in caplog.text
    assert not weight.any()


def test_steps_of_a_filter_come_back(fresh, tmp_path: Path) -> None:
    HashtableHookFactory().get_filters().clear()
    hooked = FilterHook("GlobalStepFilter", {"filter_step": 2})
    table, hook = HashTable([1], 4, name=fresh("t"), filter_hook=hooked), HashTableFilterHook(None)
    for step in range(5):
        table(torch.tensor([9] if step == 4 else [9, 2] if step == 2 else [9, 1]))
        hook.after_step(None, step)
    step = table._filter_hook_impl._global_step
    saved = {"t": table._hashtable_impl}, {"step": step}
    Saver(path=str(tmp_path), hashtables=saved[0], tensors=saved[1]).save()
    steps = rows(table, "step_filter")
    assert steps == {9: [4], 2: [2], 1: [3]}
    table.clear()
    step.zero_()
    Loader(str(tmp_path), *saved).load()
    assert (step.item(), rows(table, "step_filter")) == (5, steps)
    table._filter_hook_impl.do_filter()
    assert sorted(table.ids().tolist()) == [1, 9]
    HashtableHookFactory().get_filters().clear()


def test_a_save_replaces_and_one_that_fails_leaves_the_last(fresh, tmp_path: Path) -> None:
    name = fresh("t")
    table, _ = trained(name)
    saver = Saver(path=str(tmp_path), hashtables={name: table._hashtable_impl}, tensors={"w": torch.ones(1)})
    saver.save()
    table(torch.tensor([1000]))
    saver.save()
    assert 1000 in CheckpointReader(tmp_path).read_tensor(f"{name}@id")
    broken = Saver(path=str(tmp_path), hashtables={name: table._hashtable_impl}, tensors={"w^": torch.ones(1)})
    with pytest.raises(ValueError, match="must hold no \\^"):
        broken.save()
    assert CheckpointReader(tmp_path).read_tensor("w").tolist() == [1]
    (tmp_path / "index").unlink()
    with pytest.raises(CorruptCheckpoint, match="index"):
        CheckpointReader(tmp_path)
    with pytest.raises(RecisError, match="3 shards are written by as many ranks"):
        Saver(0, 3)
