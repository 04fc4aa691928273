"""The peer's embeddings are those of an engine, row for row, before training and after."""

from __future__ import annotations

import torch
from torch import nn

from recis_core.bench.quality.static_engine import StaticEngine
from recis_core.bench.quality.training import fit
from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.ragged import RaggedTensor

OPTIONS = {
    "user": EmbeddingOption(4, backend="torch"),
    "tags": EmbeddingOption(4, shared_name="tags", combiner="mean", backend="torch"),
    "history": EmbeddingOption(4, shared_name="tags", combiner="none", backend="torch"),
    "weighted": EmbeddingOption(4, shared_name="tags", backend="torch"),
}


def batch(first: int) -> dict:
    ids = first + torch.arange(5) * 2**55
    ragged = RaggedTensor(ids, torch.tensor([0, 3, 3, 5]))
    weighted = RaggedTensor(ids.flip(0), torch.tensor([0, 1, 2, 5]), weight=torch.arange(1.0, 6))
    return {"user": ids[:3], "tags": ragged, "history": ragged, "weighted": weighted}


def flat(out: dict) -> torch.Tensor:
    return torch.cat(
        [(value.values() if isinstance(value, RaggedTensor) else value).flatten() for value in out.values()]
    )


class Model(nn.Module):
    def __init__(self, engine: nn.Module) -> None:
        super().__init__()
        self.embeddings, self.shift = engine, nn.Parameter(torch.zeros(1))

    def forward(self, features: dict) -> torch.Tensor:
        return flat(self.embeddings(features)) + self.shift


def test_rows_are_those_of_the_engine() -> None:
    engine, data = EmbeddingEngine(OPTIONS), [batch(1), batch(3)]
    ours, theirs = Model(engine), Model(StaticEngine(engine, data))
    for model in (ours, theirs):
        fit(model, data * 3, lambda features, model=model: model(features).square().sum(), 0.1)
        model.eval()
    for features in (*data, batch(1000)):  # at last ids that are unknown to both
        torch.testing.assert_close(theirs(features), ours(features), rtol=1e-5, atol=1e-6)
    assert not torch.equal(flat(ours.embeddings(data[0])), torch.zeros(0))
