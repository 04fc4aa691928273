"""PyTorch's verbs on an engine, devices, modes and other processes."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from recis_core.features import Custom, Feature, FeatureEngine, Mod, Normalize, Quantile, SelectField
from recis_core.ragged import RaggedTensor
from tests.features.columns import bits, feature
from tests.features.every_op import FUNCTIONS, batch, fitted_engine, halves


def small() -> FeatureEngine:
    price = Feature("p").add_op(SelectField("p", torch.float32)).add_op(Normalize(zscore=True)).add_op(Quantile(4))
    return FeatureEngine([price, feature("m", "m", Mod(7))])


DATA = {"p": torch.arange(20.0), "m": torch.arange(20)}


def test_copies_and_pickles_are_whole() -> None:
    engine = fitted_engine()
    data = batch(6, 1)
    before = bits(engine(data))
    copied = copy.deepcopy(engine)
    assert bits(copied(data)) == before
    copied.fit([batch(9, 5)])
    assert copied.digest() != engine.digest()
    assert bits(engine(data)) == before
    engine = small().fit([DATA])
    engine(DATA)
    back = pickle.loads(pickle.dumps(engine))
    assert back.digest() == engine.digest()
    assert bits(back(DATA)) == bits(engine(DATA))
    with pytest.raises(ValueError, match="belongs to an engine"):
        back.features["m"].add_op(Mod(3))


def test_a_functions_pickle() -> None:
    engine = FeatureEngine([feature("x", "x", Custom("halves", 2, halves))])
    assert pickle.loads(pickle.dumps(engine)).digest() == engine.digest()
    local = FeatureEngine([feature("x", "x", Custom("local", 1, lambda value: value))])
    with pytest.raises(pickle.PicklingError, match="function 'local' is no function of a module.* Register it"):
        pickle.dumps(local)


def test_state_dict_holds_fitted_numbers() -> None:
    model = nn.ModuleDict({"features": small().fit([DATA]), "dense": nn.Linear(1, 1)})
    state = model.state_dict()
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    other = nn.ModuleDict({"features": small(), "dense": nn.Linear(1, 1)})
    other.load_state_dict(state)
    assert other["features"].digest() == model["features"].digest()
    assert bits(other["features"](DATA)) == bits(model["features"](DATA))
    unfitted = small()
    unfitted.load_state_dict(small().state_dict())
    assert not unfitted.fitted
    damaged = json.loads(bytes(state["features._extra_state"].tolist()))
    damaged["features"][0]["ops"][2]["arguments"]["fitted"]["boundaries"] = [2.0, 1.0]
    with pytest.raises(ValueError, match="fitted boundaries must rise"):
        unfitted.set_extra_state(torch.tensor(list(json.dumps(damaged).encode()), dtype=torch.uint8))
    assert unfitted.features["p"].ops[1].fitted is None
    changed = FeatureEngine([feature("m", "m", Mod(8))])
    digest = changed.digest()
    with pytest.raises(ValueError, match="the saved state is of other features; 'm', 'p' differ"):
        changed.load_state_dict(model["features"].state_dict())
    assert changed.digest() == digest


def test_moves_and_casts_change_nothing() -> None:
    engine = small().fit([DATA])
    wanted = bits(engine(DATA))
    for moved in (engine.to("cpu"), engine.double(), engine.half(), engine.eval(), engine.to("meta"), engine.train()):
        assert bits(moved(DATA)) == wanted
    assert list(engine.parameters()) == []


def test_modes_of_torch_change_nothing() -> None:
    engine = fitted_engine()
    data = batch(5, 3)
    wanted = bits(engine(data))
    with torch.device("meta"):
        assert bits(engine(data)) == wanted
    with torch.inference_mode():
        assert bits(engine(data)) == wanted
        assert bits(engine({name: value.clone() for name, value in data.items()})) == wanted
    torch.set_default_dtype(torch.float64)
    try:
        assert bits(engine(data)) == wanted
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.device("meta"):
        made_there = FeatureEngine.from_dict(engine.to_dict(), FUNCTIONS | {("first", 1): lambda columns: columns[0]})
    assert bits(made_there(data)) == wanted
    engine.features["quantile"].ops[2].set_fitted({"count": 1, "boundaries": [0.0], "rank_error": 0.0})
    with torch.device("meta"):
        assert engine(data)["quantile"].device.type == "cpu"


def test_inputs_may_be_views_and_need_gradients() -> None:
    engine = small().fit([DATA])
    strided = {"p": torch.arange(40.0, requires_grad=True)[::2] / 2, "m": torch.arange(40)[::2] // 2}
    assert bits(engine(strided, False)) == bits(engine(DATA, False))
    expanded = {"p": torch.tensor([3.0]).expand(4), "m": torch.tensor([9]).expand(4)}
    assert engine(expanded)["m"].tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8, torch.int8])
def test_narrow_integers_are_widened(dtype: torch.dtype) -> None:
    ids = torch.tensor([1, 100, 7], dtype=dtype)
    assert Mod(10)(ids).tolist() == [1, 0, 7]
    assert Mod(10)(ids).dtype == torch.int64


def test_compiled_models_run_the_engine_outside() -> None:
    engine = small().fit([DATA])

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.engine = engine

        def forward(self, data: Any) -> torch.Tensor:
            return self.engine(data)["m"] * 2

    compiled = torch.compile(Model(), backend="eager")
    assert torch.equal(compiled(DATA), engine(DATA)["m"] * 2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_the_same_bits() -> None:
    engine = fitted_engine()
    for seed in range(5):
        data = batch(200, seed)
        there = engine({name: value.to("cuda") for name, value in data.items()})
        back = {name: moved(value) for name, value in there.items()}
        assert bits(back) == bits(engine(data))


def moved(value: Any) -> Any:
    return {k: moved(v) for k, v in value.items()} if isinstance(value, dict) else value.cpu()


def test_rows_of_vectors_keep_their_form() -> None:
    vectors = RaggedTensor(torch.tensor([[0.5, 2.0], [3.0, 1.0]]), torch.tensor([0, 1, 2]))
    assert Normalize(clip=[1, 2])(vectors).values().tolist() == [[1, 2], [2, 1]]
