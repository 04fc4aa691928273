"""HSTU: its formula, answers that do not depend on a batch's other histories, what it learns, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from recis_core.models import HSTU, JaggedBlocks, RelativeBias
from recis_core.models.hstu import HSTULayer
from recis_core.ragged import RaggedTensor
from tests.models.dense_attention import dense_attention
from tests.models.sequential_cases import accuracy, alone, batch_of, optimizer_of, planted_batch, train

LENGTHS = [4, 0, 1, 70, 9]


def small(**given: Any) -> HSTU:
    """Its biases are not zero, as in a model that has learned."""
    torch.manual_seed(0)
    model = HSTU(16, heads=2, max_length=30, times=True, init_std=0.5, **{"dropout": 0.0, "backend": "torch"} | given)
    for layer in model.layers:
        torch.nn.init.normal_(layer.by_distance)
        torch.nn.init.normal_(layer.by_time)
    return model


def test_a_layer_is_its_formula() -> None:
    torch.manual_seed(0)
    layer = HSTULayer(8, 2, max_length=30, max_attention=50, times=True).double()
    torch.nn.init.normal_(layer.by_distance)
    torch.nn.init.normal_(layer.by_time)
    x, times = torch.randn(sum(LENGTHS), 8, dtype=torch.float64), torch.randint(0, 10**6, (sum(LENGTHS),))
    u, v, q, k = (part.view(-1, 2, 4) for part in F.silu(layer.to_uvqk(layer.before(x))).split(8, 1))
    bias = RelativeBias(layer.by_distance, layer.by_time, times)
    seen = dense_attention(q, k, v, LENGTHS, "silu", bias, 50, 30.0)
    wanted = x + layer.out(layer.after(seen.reshape(-1, 8)) * u.reshape(-1, 8))
    found = layer(x, JaggedBlocks.of(torch.tensor([0, *LENGTHS]).cumsum(0)), times)
    torch.testing.assert_close(found, wanted)
    weights = list(layer.parameters())
    for mine, dense in zip(*(torch.autograd.grad(out.square().sum(), weights) for out in (found, wanted)), strict=True):
        torch.testing.assert_close(mine, dense)


def test_scores_are_inner_products_of_states_and_rows() -> None:
    model, batch = small(), batch_of(LENGTHS)
    scores, table = model(batch), model.embeddings.table("item")
    x, blocks = table.lookup(batch["history"].values())[0] * 4, JaggedBlocks.of(batch["history"].offsets()[0])
    for layer in model.layers:
        x = layer(x, blocks, batch["timestamps"].values())
    torch.testing.assert_close(scores, model.last(x) @ table.lookup(batch["candidates"])[0].T)


def test_other_histories_and_what_comes_later_change_nothing() -> None:
    model, batch = small(), batch_of(LENGTHS)
    together = model(batch).split(LENGTHS)
    for sequence, scores in enumerate(together):
        torch.testing.assert_close(model(alone(batch, sequence)), scores)
    offsets = torch.tensor([0, 35])
    shorter = {f: RaggedTensor(batch[f].values()[5:40], offsets) for f in ("history", "timestamps")}
    torch.testing.assert_close(model({**batch, **shorter}), together[3][:35])


def test_times_matter_and_only_their_differences() -> None:
    model, batch = small(), batch_of(LENGTHS)
    scores, times = model(batch), batch["timestamps"]
    later = RaggedTensor(times.values() + 1_000_000_007, times.offsets()[0])
    torch.testing.assert_close(model({**batch, "timestamps": later}), scores)
    slower = RaggedTensor(times.values() * 3, times.offsets()[0])
    with pytest.raises(AssertionError):
        torch.testing.assert_close(model({**batch, "timestamps": slower}), scores)


def test_it_learns_what_follows_from_two_items() -> None:
    """The best is 0.92, for 8 % of items are drawn otherwise."""
    torch.manual_seed(0)
    model = HSTU(32, heads=2, max_length=12, times=True, dropout=0.0, backend="torch")
    train(model, 80)
    assert accuracy(model) > 0.85


def test_the_same_seed_gives_the_same_bits() -> None:
    def run() -> list[Tensor]:
        model = small(dropout=0.2)
        optimizer = optimizer_of(model)
        batch, following = planted_batch(8, 0)
        F.cross_entropy(model(batch), following).backward()
        optimizer.step()
        return list(model.parameters())

    first, second = run(), run()
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_without_times_and_longer_than_max_length() -> None:
    torch.manual_seed(0)
    model, batch = HSTU(8, max_length=5, max_attention=16, backend="torch"), batch_of([3, 200])
    del batch["timestamps"]
    assert model(batch).shape == (203, 3)
    assert sum(p.numel() for p in model.layers[0].parameters() if p.dim() == 1 and len(p) == 5) == 5


def test_refusals() -> None:
    model, batch = small(), batch_of(LENGTHS)
    with pytest.raises(ValueError, match="multiple of heads = 3; got 16"):
        HSTU(16, heads=3)
    with pytest.raises(ValueError, match="max_length must be at least 1; got 0"):
        HSTU(16, max_length=0)
    with pytest.raises(ValueError, match=r"tables \['items'\]"):
        HSTU(16, sharding={"items": "column"})
    with pytest.raises(KeyError, match="timestamps"):
        model({"history": batch["history"], "candidates": batch["candidates"]})
    with pytest.raises(TypeError, match=r"RaggedTensor of int64 \[84\], one for each id; got Tensor"):
        model({**batch, "timestamps": batch["timestamps"].values()})
    with pytest.raises(TypeError, match=r"got torch\.float32"):
        model({**batch, "timestamps": batch["timestamps"].to(torch.float32)})
