"""What of a forward never changes is planned once, and anew where it does change."""

import pytest
import torch

from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.nn.call_plan import MOST, CallPlans
from recis_core.ragged import RaggedTensor

IDS = torch.tensor([1, 2, 3])


@pytest.fixture
def engine():
    options = {"a": EmbeddingOption(4, backend="torch"), "b": EmbeddingOption(4, backend="torch", combiner="mean")}
    return EmbeddingEngine(options | {"c": EmbeddingOption(8, backend="torch", combiner="none")})


@pytest.fixture
def made(monkeypatch):
    """States that were planned."""
    states, make = [], CallPlans._made
    monkeypatch.setattr(CallPlans, "_made", lambda self, state: states.append(state) or make(self, state))
    return states


def test_once_for_one_state(engine, made):
    for _ in range(3):
        engine(dict.fromkeys("abc", IDS))
    assert len(made) == 1


def test_anew_for_what_may_change(engine, made):
    features = dict.fromkeys("abc", IDS)
    engine(features)
    engine.eval()
    known = len(engine.table("a"))
    engine({**features, "a": IDS + 100})
    assert len(engine.table("a")) == known, "eval inserts nothing"
    engine.train()
    engine.table("b").requires_grad = False
    assert not engine(features)["b"].requires_grad
    engine.table("c").eval()
    engine({**features, "a": IDS + 200, "c": IDS + 200})
    assert len(engine.table("a")) == known + 3, "the others train on"
    assert len(engine.table("c")) == 3, "a table of its own mind"
    weighted = RaggedTensor(IDS, torch.tensor([0, 3]), weight=torch.full((3,), 2.0))
    torch.testing.assert_close(engine({**features, "a": weighted})["a"], 2 * engine(features)["a"].sum(0, keepdim=True))
    assert len(made) == 5


def test_plans_are_bounded(engine):
    plans = CallPlans(engine.options, [engine.table(name) for name in "abc"])
    for k in range(3 * MOST):
        plans._made(((k % 2 == 0, True, True), (True,) * 3, (k % 3 == 0, k % 5 == 0, k % 7 == 0)))
        assert len(plans._plans) <= MOST


def test_options_are_what_was_planned(engine):
    with pytest.raises(TypeError):
        engine.options["a"] = EmbeddingOption(4, combiner="sum")


def test_offsets_of_equal_width_are_shared_and_outputs_are_not(engine):
    engine = EmbeddingEngine({name: EmbeddingOption(4, backend="torch", combiner="none") for name in "ab"})
    out = engine(dict.fromkeys("ab", IDS))
    out["a"].offsets()[0].fill_(0)
    assert out["b"].offsets()[0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("widths", [(1, 1, 1), (1, 2, 1), (0, 2, 3), (2, 0, 2)])
def test_features_of_any_width_are_joined(widths):
    engine = EmbeddingEngine({f"f{k}": EmbeddingOption(4, backend="torch", shared_name="t") for k in range(3)})
    ids = [torch.arange(4 * w).reshape(4, w) + 10 * k for k, w in enumerate(widths)]
    out = engine({f"f{k}": i for k, i in enumerate(ids)})
    for k, feature in enumerate(ids):
        want = engine.table("t").lookup(feature)[0].sum(1)
        torch.testing.assert_close(out[f"f{k}"].detach(), want)


def test_ragged_beside_dense_is_joined():
    engine = EmbeddingEngine({name: EmbeddingOption(4, backend="torch", shared_name="t") for name in "abc"})
    ragged = RaggedTensor(torch.tensor([7, 8, 9]), torch.tensor([0, 2, 2, 3]))
    out = engine({"a": IDS, "b": ragged, "c": IDS})
    rows, _ = engine.table("t").lookup(torch.tensor([7, 8, 9]))
    torch.testing.assert_close(out["b"].detach(), torch.stack([rows[:2].sum(0), torch.zeros(4), rows[2]]))
    assert torch.equal(out["a"], out["c"])


def test_features_on_two_devices_share_no_offsets(engine):
    offsets = {}
    for device in ("cpu", "meta"):
        read = engine._readers[0]._of_dense(torch.empty(3, dtype=torch.int64, device=device), offsets)
        assert read.offsets.device.type == device
