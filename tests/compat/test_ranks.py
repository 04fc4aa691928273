"""Two ranks: what RecIS's meanings are where ranks share a table."""

from __future__ import annotations

from typing import Any

from tests.exchange.ranks import run_ranks


def work(rank: int, world: int, folder: str) -> dict[str, Any]:
    import torch

    from recis_core.compat.recis.metrics.auroc import AUROC
    from recis_core.compat.recis.nn import EmbeddingEngine, EmbeddingOption
    from recis_core.compat.recis.nn.modules.hashtable import (
        HashTable,
        filter_out_sparse_param,
        split_sparse_dense_state_dict,
    )
    from recis_core.compat.recis.optim import SparseAdam
    from recis_core.compat.recis.serialize import Loader, Saver

    options = {
        "by_id": EmbeddingOption(1, shared_name="i", grad_reduce_by="id"),
        "by_worker": EmbeddingOption(1, shared_name="w"),
        "never": EmbeddingOption(2, shared_name="n"),
    }
    engine, alone = EmbeddingEngine(options), HashTable([1], name="alone")
    optimizer = SparseAdam(filter_out_sparse_param(engine), lr=0.0)
    ids = torch.tensor([[1], [1], [2 + rank]])  # id 1 twice on each rank, 2 and 3 on one
    weights = torch.tensor([[1.0], [2.0], [5.0]]) * (1 + rank)
    out = engine({"by_id": ids, "by_worker": ids})
    ((out["by_id"] + out["by_worker"]) * weights).sum().backward()
    alone(torch.tensor([rank])).sum().backward()
    optimizer.step()
    moments: dict[str, dict[int, float]] = {}
    for storage in engine._ht.values():
        impl = storage._hashtable._hashtable_impl
        values = impl.slot_group().slot_by_name("sparse_adam_exp_avg").value()
        numbered = zip(*(x.tolist() for x in impl.ids_map()), strict=True)
        moments[impl.children_info().child_at(0)] = {i: round(values[n, 0].item() * 10, 4) for i, n in numbered}
    metric = AUROC(dist_sync_on_step=True)
    metric.update(torch.tensor([0.2, 0.9]), torch.tensor([0, rank]))
    tables, numbers = split_sparse_dense_state_dict(dict(optimizer.state_dict()))
    Saver(rank, world, 2, folder, tables, numbers).save()
    for table in engine._ht.values():
        table._hashtable.clear()
    Loader(folder, tables, numbers).load()
    return {
        "moments": moments,
        "t": dict(optimizer._tables.t),
        "alone": (alone.ids().tolist(), alone.grad().coalesce().values().tolist()),
        "counts": int(metric.tp[0] + metric.fp[0]),
        "back": sorted(i for table in engine._ht.values() for i in table._hashtable.ids().tolist()),
    }


def test_two_ranks_reduce_count_and_save_as_in_recis(tmp_path) -> None:
    first, second = run_ranks(2, work, str(tmp_path), env={"RECIS_BACKEND": "torch"})
    gradients = {name: first["moments"][name] | second["moments"][name] for name in ("i", "w")}
    # by id: the mean over ranks of each rank's sum; by worker: the sum over two
    assert gradients["i"] == {1: (3 + 6) / 2, 2: 5.0, 3: 10.0}
    assert gradients["w"] == {1: (3 + 6) / 2, 2: 2.5, 3: 5.0}
    assert first["t"] == second["t"] == {"i": 1, "w": 1, "n": 0}
    assert first["alone"] == ([0], [[0.5]])  # ranks do not share it; its gradient is over WORLD_SIZE all the same
    assert second["alone"] == ([1], [[0.5]])
    assert first["counts"] == 4
    assert sorted(first["back"] + second["back"]) == [1, 1, 2, 2, 3, 3]
