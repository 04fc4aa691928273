"""How long a forward pins its rows: until its last backward, whoever still holds its graph."""

import torch

from tests.tiers.training import adam, engine_of
from tests.training.loop import loss_of

IDS = {"f": torch.arange(16)}


def test_the_last_backward_ends_it() -> None:
    engine = engine_of()
    optimizer, physical = adam(engine), engine.table("f").physical
    losses = []
    for step in range(3):
        losses.append(loss_of(engine(IDS)))
        assert physical.clock.pinned_from == step
        losses[-1].backward()
        assert physical.clock.pinned_from == step  # by the gradient
        optimizer.step()
        assert physical.clock.pinned_from == step + 1


def test_a_graph_that_is_kept_pins_on() -> None:
    engine = engine_of()
    optimizer, physical = adam(engine), engine.table("f").physical
    loss = loss_of(engine(IDS))
    loss.backward(retain_graph=True)
    optimizer.step()
    assert physical.clock.pinned_from == 0
    loss.backward()
    optimizer.step()
    assert physical.clock.pinned_from == physical.step == 2
