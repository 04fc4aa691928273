"""Three optimizers over 50 steps, beside TorchRec's tables under torch's optimizers, and beside FBGEMM's in backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchrec as theirs
from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation
from torchrec.modules.fused_embedding_modules import FusedEmbeddingBagCollection

import recis_core.compat.torchrec as ours
from recis_core.compat.torchrec.optim import KeyedOptimizerWrapper, RowWiseAdagrad, apply_optimizer_in_backward
from tests.compat.torchrec.beside.configurations import Configuration, configuration, require_close

STEPS = 50
TOLERANCE = 1e-4  # of gradients, which add up over the steps
NUMBERS: dict[str, dict[str, float]] = {
    "SGD": {"lr": 0.05},
    "RowWiseAdagrad": {"lr": 0.05, "eps": 1e-8},
    "Adam": {"lr": 0.02},
}


def classes(rule: str) -> tuple[Any, Any]:
    """Ours and theirs."""
    if rule == "RowWiseAdagrad":
        return RowWiseAdagrad, theirs.optim.RowWiseAdagrad
    return getattr(torch.optim, rule), getattr(torch.optim, rule)


def a_configuration(seed: int, *, weighted: bool | None = None) -> Configuration:
    """One with rows for all bags' ids, in case a batch has all ids."""
    found = configuration(seed, least_rows=14)
    return found if weighted is None else Configuration(found.tables, weighted, found.keys)


def trained(
    collection: Any, framework: Any, config: Configuration, step: Callable[[], None], **batches: Any
) -> list[float]:
    """The losses of STEPS batches."""
    losses = []
    for number in range(STEPS):
        out = collection(framework.KeyedJaggedTensor.from_lengths_sync(**config.batch(number, **batches))).values()
        target = torch.randn(out.shape, generator=torch.Generator().manual_seed(number))
        loss = (out - target).square().mean()
        losses.append(loss.item())
        loss.backward()
        step()
    return losses


def require_equal(mine: Any, other: Any, losses: tuple[list[float], list[float]]) -> None:
    require_close(torch.tensor(losses[0]), torch.tensor(losses[1]), TOLERANCE, "losses")
    for (name, found), (theirs_name, expected) in zip(
        mine.state_dict().items(), other.state_dict().items(), strict=True
    ):
        assert name == theirs_name
        require_close(found, expected, TOLERANCE, name)


@pytest.mark.parametrize("way", ["in_backward", "keyed"])
@pytest.mark.parametrize("rule", list(NUMBERS))
@pytest.mark.parametrize("seed", range(3))
def test_beside_torchs_optimizers(rule: str, way: str, seed: int) -> None:
    """A dense Adam moves rows without a gradient, too, so its batches hold every id of the tables."""
    config, every = a_configuration(seed), {"all_ids": rule == "Adam"}
    if (
        rule == "Adam"
    ):  # each feature's ids are those of its smallest table: tables of other sizes would have rows left over
        least = min(table.rows for table in config.tables)
        tables = tuple(type(t)(t.name, least, t.dim, t.features, t.mean) for t in config.tables)
        config = Configuration(tables, config.weighted, config.keys)
    our_class, their_class = classes(rule)
    other = theirs.EmbeddingBagCollection(config.configs(theirs, "EmbeddingBagConfig"), is_weighted=config.weighted)
    mine = ours.EmbeddingBagCollection(config.configs(ours, "EmbeddingBagConfig"), is_weighted=config.weighted)
    mine.load_state_dict(other.state_dict())
    their_optimizer = their_class(other.parameters(), **NUMBERS[rule])

    def their_step() -> None:
        their_optimizer.step()
        their_optimizer.zero_grad()

    expected = trained(other, theirs, config, their_step, **every)
    if way == "in_backward":
        apply_optimizer_in_backward(our_class, mine.parameters(), NUMBERS[rule])
        found = trained(mine, ours, config, lambda: None, **every)
    else:
        keyed = KeyedOptimizerWrapper(dict(mine.named_parameters()), lambda params: our_class(params, **NUMBERS[rule]))

        def step() -> None:
            keyed.step()
            keyed.zero_grad()

        found = trained(mine, ours, config, step, **every)
    assert abs(found[0] - found[-1]) > 1e-3
    require_equal(mine, other, (found, expected))


@pytest.mark.parametrize("rule", ["SGD", "RowWiseAdagrad"])
@pytest.mark.parametrize("seed", range(3))
def test_beside_fbgemm_in_backward(rule: str, seed: int) -> None:
    """FBGEMM's dims are multiples of 4. Its CPU has no Adam; its collections mix up columns of tables pooled unlike."""
    found = a_configuration(seed, weighted=seed == 2)
    tables = tuple(type(t)(t.name, t.rows, 4 * (1 + t.dim // 4), t.features, seed == 0) for t in found.tables)
    config = Configuration(tables, found.weighted, found.keys)
    our_class, their_class = classes(rule)
    other = FusedEmbeddingBagCollection(
        config.configs(theirs, "EmbeddingBagConfig"), optimizer_type=their_class, optimizer_kwargs=NUMBERS[rule],
        is_weighted=config.weighted, device=torch.device("cpu"), location=EmbeddingLocation.HOST,
    )  # fmt: skip
    mine = ours.EmbeddingBagCollection(config.configs(ours, "EmbeddingBagConfig"), is_weighted=config.weighted)
    mine.load_state_dict({name: value.detach().clone() for name, value in other.state_dict().items()})
    apply_optimizer_in_backward(our_class, mine.parameters(), NUMBERS[rule])
    losses = trained(mine, ours, config, lambda: None), trained(other, theirs, config, lambda: None)
    require_equal(mine, other, losses)
