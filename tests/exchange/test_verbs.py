"""torch's verbs on tables that two ranks share: what they do there is the same on both, and what it is on one."""

from __future__ import annotations

import gc
import warnings
from typing import Any

import torch
from torch import nn

from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.optim import JointOptimizer, SparseSGD, clip_grad_norm_, join
from tests.exchange.ranks import run_ranks


def _build(**options: Any) -> tuple[EmbeddingEngine, nn.Linear]:
    torch.manual_seed(0)
    return EmbeddingEngine({n: EmbeddingOption(4, **options) for n in "ab"}), nn.Linear(4, 1)


def _rows(engine: EmbeddingEngine, name: str = "a") -> torch.Tensor:
    return engine.table(name).embeddings().clone()


def _clipped_by_torch(optimizer: JointOptimizer, max_norm: float) -> torch.Tensor:
    return nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], max_norm)


def verbs(rank: int, world: int) -> dict[str, Any]:
    """What became of each; ids overlap between ranks."""
    engine, tower = _build()
    ids, told = torch.tensor([1, 2, 3 + rank]), {}
    optimizer = join(torch.optim.SGD(tower.parameters(), lr=0.1), SparseSGD(engine.sparse_parameters(), lr=0.1))

    def push() -> None:
        out = engine({"a": ids, "b": ids})
        tower(out["a"] + out["b"]).square().sum().backward()
        for p in tower.parameters():
            torch.distributed.all_reduce(p.grad)

    for name, clip in (("theirs", _clipped_by_torch), ("ours", clip_grad_norm_)):
        push()
        told[name] = float(clip(optimizer, 1e-3)), optimizer.sparse.handles()[0].factor()
        optimizer.zero_grad()
    before = _rows(engine), _rows(engine, "b")
    push()
    engine.zero_grad()
    optimizer.step()
    told["zeroed"] = torch.equal(before[0], _rows(engine))
    engine.table("a").requires_grad = False
    told["frozen"] = [out.requires_grad for out in engine({"a": ids, "b": ids}).values()]
    push()
    optimizer.step()
    told["moved"] = [not torch.equal(b, _rows(engine, n)) for b, n in zip(before, "ab", strict=True)]
    told["t"] = optimizer.sparse.state_dict()["t"]
    engine.requires_grad_()
    optimizer.sparse.param_groups[0]["momentum"] = 0.9
    push()
    optimizer.step()
    told["slots"] = engine.table("a").slot_group().slot_names()
    del optimizer
    gc.collect()
    told["successor"] = SparseSGD(engine.sparse_parameters(), momentum=0.9).state_dict()["t"]
    return told


def test_verbs_on_two_ranks() -> None:
    one, two = run_ranks(2, verbs)
    assert one == two
    (norm, factor), (our_norm, our_factor) = one["theirs"], one["ours"]
    assert abs(norm / our_norm - 1) < 1e-6
    assert abs(factor / our_factor - 1) < 1e-6
    assert one["zeroed"]
    assert one["frozen"] == [False, True]
    assert one["moved"] == [False, True]
    assert one["t"] == {"a": 1, "b": 2}
    assert one["slots"] == ["momentum"]
    assert one["successor"] == {"a": 2, "b": 3}


def unattended(rank: int, world: int) -> tuple[int, int, bool]:
    """(warnings, gradients kept, whether an optimizer that comes late applies all)."""
    (engine, _), (other, _) = _build(), _build(seed=0)
    optimizer = SparseSGD(other.sparse_parameters(), lr=1.0)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for k in range(20):
            for one in (engine, other):
                one({"a": torch.tensor([1, 2 + k % 3, 9 + rank]), "b": torch.tensor([k])})["a"].sum().backward()
    kept = len(engine.table("a").physical.held)
    late = SparseSGD(engine.sparse_parameters(), lr=1.0)
    late.step(), optimizer.step()
    return len(said), kept, torch.allclose(_rows(engine), _rows(other))


def test_gradients_without_an_optimizer_on_two_ranks() -> None:
    for said, kept, same in run_ranks(2, unattended):
        assert said == 1
        assert kept <= 8
        assert same
