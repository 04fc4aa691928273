"""Values and gradients of 200 random configurations, beside TorchRec's own collections."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchrec as theirs
from torch import Tensor

import recis_core.compat.torchrec as ours
from tests.compat.torchrec.beside.configurations import Configuration, configuration, gradient_of, require_close

FORWARD, GRADIENT = 1e-5, 1e-4


def pair(config: Configuration, kind: str) -> tuple[Any, Any]:
    """Ours and theirs with the same rows; both ways of the state are strict."""
    made = []
    for framework in (ours, theirs):
        more = {"is_weighted": config.weighted} if kind == "EmbeddingBagCollection" else {}
        made.append(
            getattr(framework, kind)(tables=config.configs(framework, kind.replace("Collection", "Config")), **more)
        )
    mine, other = made
    mine.load_state_dict(other.state_dict())
    assert {key: value.shape for key, value in mine.state_dict().items()} == {
        key: value.shape for key, value in other.state_dict().items()
    }
    other.load_state_dict(mine.state_dict())
    return mine, other


def require_equal_gradients(mine: Any, other: Any, config: Configuration, home: str) -> None:
    for table in config.tables:
        expected = getattr(other, home)[table.name].weight.grad
        found = gradient_of(getattr(mine, home)[table.name].table, table.rows)
        require_close(
            found, torch.zeros_like(found) if expected is None else expected, GRADIENT, f"gradient of {table.name}"
        )


@pytest.mark.parametrize("seed", range(100))
def test_pooled(seed: int) -> None:
    config = configuration(seed)
    mine, other = pair(config, "EmbeddingBagCollection")
    given = config.batch(seed)
    weights = [None if given["weights"] is None else given["weights"].clone().requires_grad_() for _ in range(2)]
    ours_in = ours.KeyedJaggedTensor(**{**given, "weights": weights[0]})
    theirs_in = theirs.KeyedJaggedTensor(**{**given, "weights": weights[1]})
    found, expected = mine(ours_in), other(theirs_in)
    assert (found.keys(), found.length_per_key()) == (expected.keys(), expected.length_per_key())
    require_close(found.values(), expected.values(), FORWARD, "values")
    for key, value in expected.to_dict().items():
        assert torch.equal(found[key], found.to_dict()[key])
        require_close(found[key], value, FORWARD, key)
    up = torch.randn(expected.values().shape, generator=torch.Generator().manual_seed(seed))
    found.values().backward(up)
    expected.values().backward(up)
    require_equal_gradients(mine, other, config, "embedding_bags")
    if config.weighted:
        require_close(weights[0].grad, weights[1].grad, GRADIENT, "gradient of weights")


@pytest.mark.parametrize("seed", range(100, 200))
def test_rows(seed: int) -> None:
    config = configuration(seed, same_dim=True)
    mine, other = pair(config, "EmbeddingCollection")
    given = config.batch(seed)
    found, expected = mine(ours.KeyedJaggedTensor(**given)), other(theirs.KeyedJaggedTensor(**given))
    assert list(found) == list(expected)
    loss: list[Tensor] = [torch.zeros(()), torch.zeros(())]
    for key, jagged in expected.items():
        assert torch.equal(found[key].lengths(), jagged.lengths())
        require_close(found[key].values(), jagged.values(), FORWARD, key)
        up = torch.randn(jagged.values().shape, generator=torch.Generator().manual_seed(seed))
        loss = [total + (one.values() * up).sum() for total, one in zip(loss, (found[key], jagged), strict=True)]
    for total in loss:
        total.backward()
    require_equal_gradients(mine, other, config, "embeddings")


@pytest.mark.parametrize("seed", range(10))
def test_torchrecs_own_inputs_come_out_as_its_own(seed: int) -> None:
    config = configuration(seed)
    mine, _ = pair(config, "EmbeddingBagCollection")
    given = config.batch(seed)
    found = mine(theirs.KeyedJaggedTensor(**given))
    assert type(found) is theirs.KeyedTensor
    assert torch.equal(found.values(), mine(ours.KeyedJaggedTensor(**given)).values())
    config = configuration(seed, same_dim=True)
    mine, _ = pair(config, "EmbeddingCollection")
    given = config.batch(seed)
    assert {type(jagged) for jagged in mine(theirs.KeyedJaggedTensor(**given)).values()} == {theirs.JaggedTensor}


def test_torchrecs_own_configs_are_taken() -> None:
    config = configuration(3)
    mine = ours.EmbeddingBagCollection(config.configs(theirs, "EmbeddingBagConfig"), is_weighted=config.weighted)
    assert list(mine.state_dict()) == [f"embedding_bags.{table.name}.weight" for table in config.tables]


def test_the_comparison_fails_where_values_differ() -> None:
    with pytest.raises(AssertionError, match="what: "):
        require_close(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.001]), FORWARD, "what")
    with pytest.raises(AssertionError, match="what: "):
        require_close(torch.zeros(2), torch.zeros(3), FORWARD, "what")
