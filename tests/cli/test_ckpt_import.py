"""recis ckpt import, and runs that go on from what it wrote: the same bits as the run that was never stopped."""

import copy
import json

import pytest
import torch
from torch import nn

from recis_core.cli import main
from recis_core.nn import HashTable, filter_out_sparse_param
from recis_core.optim import SparseAdagrad, SparseAdamW, join
from recis_core.serialize import CheckpointManager, open_checkpoint, write_recis_checkpoint

D, T = 3, 5
TAKEN = ["tables/*", "dense/*", "optimizer/*"]


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.item = HashTable([D], name="item", backend="torch")
        torch.manual_seed(0)
        self.tower = nn.Linear(D, 1)


class Run:
    def __init__(self, sparse=SparseAdamW, lr=0.05):
        self.model = Model()
        self.dense = torch.optim.AdamW(self.model.tower.parameters(), lr=0.01)
        self.sparse = sparse(filter_out_sparse_param(self.model), lr=lr)
        self.optimizer = join(self.dense, self.sparse)

    def steps(self, which):
        losses = []
        for step in which:
            ids = torch.arange(8) * (step % 3 + 1)
            loss = self.model.tower(self.model.item(ids)).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        return losses

    def restored(self, directory, **how):
        manager = CheckpointManager(directory, None, None)
        manager.register(model=self.model, optimizer=self.optimizer)
        return manager.restore(**how)


def imported(capsys, *argv):
    """(exit status, what it said)"""
    status = main(["ckpt", "import", *map(str, argv), "--json"])
    out, err = capsys.readouterr()
    return status, json.loads(out) if not status else err


def as_recis(run, path, shards=2):
    """The run as RecIS v1 would have saved it, AdamW's powers in float32."""
    rows = run.model.item.snapshot()
    slots = {"sparse_adamw_exp_avg": rows.slots["m"], "sparse_adamw_exp_avg_sq": rows.slots["v"]}
    powers = {f"sparse_adamw_beta{n}": torch.tensor(beta) ** T for n, beta in ((1, 0.9), (2, 0.999))}
    write_recis_checkpoint(path, {"item": {"id": rows.ids, "embedding": rows.weights, **slots}}, powers, shards=shards)
    dense = {n: v for n, v in run.model.state_dict().items() if n.startswith("tower")}
    torch.save(dense, path / "model.pt")
    torch.save({"global_step": torch.tensor(T), "dense_optimizer": run.dense.state_dict()}, path / "extra.pt")
    return path


def as_torchrec(run, path):
    """Row i of an EmbeddingBagCollection's table has id i; rows that no id trained are those of a new table."""
    rows = run.model.item.snapshot()
    size = int(rows.ids.max()) + 1
    whole = {name: torch.zeros(size, D) for name in ("weight", "momentum1", "exp_avg_sq")}
    for name, values in (("weight", rows.weights), ("momentum1", rows.slots["m"]), ("exp_avg_sq", rows.slots["v"])):
        whole[name][rows.ids] = values
    key = "ebc.embedding_bags.item.weight"
    states = {f"item.{name}": whole[name] for name in ("momentum1", "exp_avg_sq")}
    dense = {n: v for n, v in run.model.state_dict().items() if n.startswith("tower")}
    torch.save({"model": {key: whole["weight"], **dense}, "optimizer": {"state": {key: states}}}, path)
    return path


def test_a_run_goes_on_from_recis_v1(capsys, tmp_path):
    run = Run()
    run.steps(range(T))
    source = as_recis(run, tmp_path / f"ckpt_{T}")
    status, said = imported(capsys, source, tmp_path / "ours")
    assert (status, said["optimizer"], said["t"], said["dense"]) == (0, ["dense", "sparse"], {"item": T}, 2)
    other = Run()
    restored = other.restored(tmp_path / "ours", load=TAKEN)
    assert restored.step == T
    assert other.sparse.state_dict() == run.sparse.state_dict()
    assert other.steps(range(T, T + 4)) == run.steps(range(T, T + 4))


def test_a_run_goes_on_from_torchrec(capsys, tmp_path):
    run = Run()
    run.steps(range(T))
    source = as_torchrec(run, tmp_path / "model.pt")
    status, err = imported(capsys, source, tmp_path / "ours")
    assert status == 1
    assert "item has Adam's moments, but not how many steps were applied" in err
    assert not (tmp_path / "ours" / "step-00000000").exists()
    status, said = imported(capsys, source, tmp_path / "ours", "--t", T, "--step", T)
    assert (status, said["optimizer"], said["t"]) == (0, ["sparse"], {"item": T})
    other = Run(lr=0.05)
    other.dense.load_state_dict(
        copy.deepcopy(run.dense.state_dict())
    )  # TorchRec's dense optimizer has names of its own
    other.restored(tmp_path / "ours", load=["tables/*", "dense/*", "optimizer/sparse"])
    known = [step for step in range(T, T + 6) if step % 3 < 2]  # ids that the table had rows of
    assert other.steps(known) == run.steps(known)


def test_numbers_stay_the_optimizers_own_and_it_says_so(capsys, tmp_path):
    run = Run()
    run.steps(range(T))
    imported(capsys, as_recis(run, tmp_path / "ckpt_5", shards=1), tmp_path / "ours")
    other = Run(lr=0.5)
    restored = other.restored(tmp_path / "ours", load=TAKEN)
    assert restored.fresh == ["optimizer/sparse: numbers of groups, which it does not hold"]
    assert other.sparse.param_groups[0]["lr"] == 0.5
    assert other.sparse.state_dict()["t"] == {"item": T}


def test_of_another_kind_of_optimizer_the_rows_alone_are_taken(capsys, tmp_path):
    run = Run()
    run.steps(range(T))
    imported(capsys, as_recis(run, tmp_path / "ckpt_5", shards=1), tmp_path / "ours")
    other = Run(SparseAdagrad)
    with pytest.warns(UserWarning, match="sparse optimizer starts anew: the state is of another kind of optimizer"):
        restored = other.restored(tmp_path / "ours", load=TAKEN)
    assert "optimizer/sparse" in restored.fresh
    assert "tables/item: slots sum" in restored.fresh
    assert other.sparse.state_dict()["t"] == {"item": 0}


def test_without_the_optimizer(capsys, tmp_path):
    run = Run()
    run.steps(range(T))
    status, said = imported(capsys, as_torchrec(run, tmp_path / "model.pt"), tmp_path / "ours", "--no-optimizer")
    assert (status, said["optimizer"], said["t"]) == (0, [], {})
    checkpoint = open_checkpoint(tmp_path / "ours")
    assert (checkpoint.tables["item"].slots, sorted(checkpoint.parts)) == ({}, ["dense", "imported"])
    status = main(["ckpt", "import", str(tmp_path / "model.pt"), str(tmp_path / "more"), "--t", "5"])
    assert "slots m, v, t 5" in capsys.readouterr().out
