"""TrainPipelineSparseDist and DistributedModelParallel on one rank."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from recis_core.compat.torchrec import EmbeddingBagCollection, EmbeddingBagConfig, KeyedJaggedTensor
from recis_core.compat.torchrec.datasets.utils import Batch
from recis_core.compat.torchrec.distributed import DistributedModelParallel, TrainPipelineSparseDist
from recis_core.compat.torchrec.optim import KeyedOptimizerWrapper, apply_optimizer_in_backward
from recis_core.compat.torchrec.optim.optimizers import in_backward_optimizer_filter
from recis_core.errors import RecisError
from recis_core.nn import CacheConfig

CPU = torch.device("cpu")


class Model(nn.Module):
    def __init__(self, **more: Any) -> None:
        super().__init__()
        self.ebc = EmbeddingBagCollection([EmbeddingBagConfig(50, 4, "t", feature_names=["f"])], **more)
        self.over = nn.Linear(5, 1)
        nn.init.constant_(self.over.weight, 0.3)
        nn.init.zeros_(self.over.bias)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        pooled = self.ebc(batch.sparse_features)["f"]
        out = self.over(torch.cat([pooled, batch.dense_features], 1)).squeeze(1)
        return (out - batch.labels).square().mean().reshape(1), out.detach()


def batches(count: int) -> Iterator[Batch]:
    for number in range(count):
        draw = torch.Generator().manual_seed(number)
        lengths = torch.randint(0, 3, (6,), generator=draw)
        ids = torch.randint(0, 50, (int(lengths.sum()),), generator=draw)
        kjt = KeyedJaggedTensor.from_lengths_sync(["f"], ids, lengths)
        yield Batch(torch.rand(6, 1, generator=draw), kjt, torch.rand(6, generator=draw))


def built(**more: Any) -> tuple[DistributedModelParallel, KeyedOptimizerWrapper]:
    model = Model(**more)
    apply_optimizer_in_backward(torch.optim.Adagrad, model.ebc.parameters(), {"lr": 0.1})
    wrapped = DistributedModelParallel(model, device=CPU)
    dense = dict(in_backward_optimizer_filter(wrapped.named_parameters()))
    return wrapped, KeyedOptimizerWrapper(dense, lambda params: torch.optim.SGD(params, lr=0.1))


def run(count: int, **more: Any) -> tuple[list[Tensor], DistributedModelParallel]:
    model, optimizer = built(**more)
    pipeline, reader, outputs = TrainPipelineSparseDist(model, optimizer, CPU), batches(count), []
    while True:
        try:
            outputs.append(pipeline.progress(reader))
        except StopIteration:
            return outputs, model


def test_it_trains_as_a_plain_loop_does() -> None:
    outputs, model = run(5)
    plain, optimizer = built()
    for batch, output in zip(batches(5), outputs, strict=True):
        optimizer.zero_grad()
        loss, found = plain(batch)
        loss.sum().backward()
        optimizer.step()
        assert torch.equal(found, output)
    assert list(model.state_dict()) == ["ebc.embedding_bags.t.weight", "over.weight", "over.bias"]
    for name, value in model.state_dict().items():
        assert torch.equal(value, plain.state_dict()[name])


@pytest.mark.full  # tables in tiers compile their loops
def test_a_cache_changes_no_bit() -> None:
    cached, _ = run(12, table_options={"t": {"cache": CacheConfig(device_bytes=1 << 12)}})
    plain, _ = run(12)
    assert all(torch.equal(one, two) for one, two in zip(cached, plain, strict=True))


def test_another_iterator_is_another_pass_and_eval_changes_nothing() -> None:
    model, optimizer = built()
    pipeline = TrainPipelineSparseDist(model, optimizer, CPU)
    first = pipeline.progress(batches(3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.eval()
    again = pipeline.progress(batches(3))
    assert not torch.equal(first, again)
    assert torch.equal(again, pipeline.progress(batches(3)))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.train()
    reader = batches(1)
    pipeline.progress(reader)
    for _ in range(2):
        with pytest.raises(StopIteration):
            pipeline.progress(reader)


def test_wrong_batches_and_arguments() -> None:
    model, optimizer = built()
    with pytest.raises(RecisError, match=r"must have to\(device"):
        TrainPipelineSparseDist(model, optimizer, CPU).progress(iter([(1, 2)]))
    with pytest.raises(ValueError, match="execute_all_batches must be True"):
        TrainPipelineSparseDist(model, optimizer, CPU, execute_all_batches=False)
    with pytest.raises(ValueError, match="plan must be left out; got list"):
        DistributedModelParallel(nn.Linear(1, 1), plan=[])  # type: ignore[arg-type]
    with pytest.raises(ImportError, match="a hash of their ids says that"):
        from recis_core.compat.torchrec.distributed import planner  # noqa: F401
