"""Two ranks: tables that they share, under TorchRec's names, are those of one process with both batches."""

from __future__ import annotations

from typing import Any

import pytest

from tests.exchange.ranks import run_ranks

STEPS = 4


def work(rank: int, world: int) -> tuple[list[float], dict[str, Any]]:
    """Losses of this rank, and the whole state's values, for each rank trains its half of the batch."""
    import torch

    from recis_core.compat.torchrec.distributed import DistributedModelParallel, TrainPipelineSparseDist
    from recis_core.compat.torchrec.optim import CombinedOptimizer, KeyedOptimizerWrapper
    from recis_core.compat.torchrec.optim.optimizers import in_backward_optimizer_filter
    from tests.compat.torchrec.test_pipeline import Model, apply_optimizer_in_backward, batches

    module = Model()
    apply_optimizer_in_backward(torch.optim.SGD, module.ebc.parameters(), {"lr": 0.5})
    model = DistributedModelParallel(module)
    dense = dict(in_backward_optimizer_filter(model.named_parameters()))
    optimizer = CombinedOptimizer(
        [model.fused_optimizer, KeyedOptimizerWrapper(dense, lambda params: torch.optim.SGD(params, lr=0.5))]
    )
    pipeline, losses = TrainPipelineSparseDist(model, optimizer, torch.device("cpu")), []
    reader = batches(STEPS * world)
    for number, batch in enumerate(list(reader)):
        if number % world == rank:
            losses.append(pipeline.progress(iter([batch])).tolist())
    dense_values = {name: value.tolist() for name, value in model.state_dict().items() if name.startswith("over")}
    rows = module.ebc.embedding_bags["t"].table.lookup(torch.arange(50))[0].tolist()
    return losses, {**dense_values, "rows": rows}


@pytest.mark.full  # processes
def test_two_ranks_are_one_process_with_both_batches() -> None:
    import torch

    from tests.compat.torchrec.test_pipeline import Model, batches

    (_, first), (_, second) = run_ranks(2, work, env={"RECIS_BACKEND": "torch"})
    assert first == second
    model = Model()
    table = model.ebc.embedding_bags["t"].table
    from recis_core.optim import SparseSGD, join

    optimizer = join(torch.optim.SGD(model.over.parameters(), lr=0.5), SparseSGD({"t": table}, lr=0.5))
    given = list(batches(STEPS * 2))
    for at in range(0, len(given), 2):
        optimizer.zero_grad()
        sum(model(batch)[0].sum() / 2 for batch in given[at : at + 2]).backward()  # type: ignore[union-attr]
        optimizer.step()
    torch.testing.assert_close(torch.tensor(first["rows"]), table.lookup(torch.arange(50))[0], rtol=1e-5, atol=1e-6)
    assert first["over.bias"] == pytest.approx(model.over.bias.tolist(), rel=1e-4)


def refused(rank: int, world: int) -> str:
    """Rank 1 has an id that the table has not; what each rank raises, and that both go on."""
    import torch

    from recis_core.compat.torchrec import EmbeddingBagCollection, EmbeddingBagConfig, KeyedJaggedTensor

    ebc = EmbeddingBagCollection([EmbeddingBagConfig(10, 2, "t")])

    def look_up(id: int) -> torch.Tensor:
        return ebc(KeyedJaggedTensor.from_lengths_sync(["t"], torch.tensor([id]), torch.tensor([1]))).values()

    try:
        look_up(3 + 7 * rank)
    except Exception as error:
        said = type(error).__name__
    assert look_up(3).shape == (1, 2)
    return said


@pytest.mark.full  # processes
def test_an_id_out_of_bounds_is_refused_on_all_ranks() -> None:
    assert run_ranks(2, refused, env={"RECIS_BACKEND": "torch"}) == ["ExchangeMismatch", "IndexError"]
