"""Collections beside torch.nn.EmbeddingBag and by hand.

Sizes: n rows, D dim.
"""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from recis_core.compat.torchrec import (
    DataType,
    EmbeddingBagCollection,
    EmbeddingBagConfig,
    EmbeddingCollection,
    EmbeddingConfig,
    KeyedJaggedTensor,
    PoolingType,
)
from recis_core.errors import RecisError
from recis_core.nn import filter_out_sparse_param
from recis_core.optim import SparseAdagrad, join
from recis_core.serialize import CheckpointManager
from recis_core.serialize.dense import dense_state
from tests.compat.torchrec.batches import IDS, WEIGHTS, bags, batch, rows, weights_of

OFFSETS = torch.tensor([0, 2, 2, 3])  # of user
USER = slice(0, 3)


@pytest.mark.parametrize("pooling", [PoolingType.SUM, PoolingType.MEAN])
def test_pooled_as_torchs_embedding_bag(pooling: PoolingType) -> None:
    ebc = bags(pooling)
    out = ebc(batch())
    assert (out.keys(), out.length_per_key()) == (["user@t_user", "item", "user@t_both"], [2, 3, 3])
    for table, key in zip(weights_of(ebc), ("user@t_user", "user@t_both"), strict=True):
        plain = nn.EmbeddingBag.from_pretrained(
            table, mode=pooling.value.lower(), freeze=False, include_last_offset=True
        )
        expected = plain(torch.tensor(IDS)[USER], OFFSETS)
        torch.testing.assert_close(out[key], expected)
        assert out[key][1].tolist() == [0.0] * table.shape[1]
    up = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    (out["user@t_user"] * up).sum().backward()
    table, (numbers, found) = ebc.embedding_bags["t_user"].table, ebc.embedding_bags["t_user"].table.grad()
    plain = nn.EmbeddingBag.from_pretrained(
        weights_of(ebc)[0], mode=pooling.value.lower(), freeze=False, include_last_offset=True
    )
    (plain(torch.tensor(IDS)[USER], OFFSETS) * up).sum().backward()
    assert plain.weight.grad is not None
    for number, gradient in zip(numbers.tolist(), found, strict=True):
        id = {row: i for i, row in table._numbered().items()}[number]
        torch.testing.assert_close(gradient, plain.weight.grad[id])
    assert len(numbers) == 2


def test_weights_scale_rows_and_have_gradients() -> None:
    ebc, given = bags(weighted=True), batch(weighted=True)
    given.weights().requires_grad_()
    out = ebc(given)
    table = weights_of(ebc)[0]
    torch.testing.assert_close(out["user@t_user"][0], table[7] + 2 * table[9])
    out["user@t_user"].sum().backward()
    expected = [float(table[i].sum()) for i in IDS[USER]] + [0.0] * 5
    assert given.weights().grad is not None
    torch.testing.assert_close(given.weights().grad, torch.tensor(expected))
    with pytest.raises(ValueError, match="is_weighted=True needs weights"):
        ebc(batch())


def test_a_weighted_mean_divides_by_the_count_as_fbgemm_does() -> None:
    ebc = bags(PoolingType.MEAN, weighted=True)
    table = weights_of(ebc)[0]
    torch.testing.assert_close(
        ebc(batch(weighted=True))["user@t_user"][0], (WEIGHTS[0] * table[7] + WEIGHTS[1] * table[9]) / 2
    )


def test_weights_of_the_input_are_ignored_unless_asked_for() -> None:
    ebc = bags()
    assert torch.equal(ebc(batch(weighted=True)).values(), ebc(batch()).values())


def test_rows_come_out_one_for_each_id() -> None:
    collection = rows(need_indices=True)
    found = collection(batch())["user"]
    table = collection.state_dict()["embeddings.t_user.weight"]
    assert torch.equal(found.values(), table[[7, 9, 7]])
    assert (found.lengths().tolist(), found.weights().tolist()) == ([2, 0, 1], [7, 9, 7])
    assert rows()(batch())["user"].weights_or_none() is None
    with pytest.raises(ValueError, match="one embedding_dim"):
        EmbeddingCollection([EmbeddingConfig(4, 2, "a"), EmbeddingConfig(4, 3, "b")])


def test_ids_beyond_num_embeddings_are_refused_unless_the_table_is_dynamic() -> None:
    far = KeyedJaggedTensor.from_lengths_sync(["t"], torch.tensor([10]), torch.tensor([1]))
    with pytest.raises(IndexError, match="'t' must be from 0 to 9.*got 10.*use_virtual_table=True"):
        EmbeddingBagCollection([EmbeddingBagConfig(10, 2, "t")])(far)
    below = KeyedJaggedTensor.from_lengths_sync(["t"], torch.tensor([-1]), torch.tensor([1]))
    with pytest.raises(IndexError, match="got -1"):
        EmbeddingBagCollection([EmbeddingBagConfig(10, 2, "t")]).eval()(below)
    dynamic = EmbeddingBagCollection([EmbeddingBagConfig(10, 2, "t", use_virtual_table=True)])
    huge = KeyedJaggedTensor.from_lengths_sync(["t"], torch.tensor([1 << 60, -5]), torch.tensor([1, 1]))
    assert dynamic(huge).values().abs().sum() > 0
    assert dynamic.embedding_bags["t"].table.ids().tolist() == [-5, 1 << 60]
    assert [key.split("-")[0] for key in dynamic.state_dict()] == ["embedding_bags.t.table.slices.0"] * 2


def test_a_missing_feature_is_named() -> None:
    with pytest.raises(KeyError, match=r"\['item'\] are missing"):
        bags()(batch().permute([0]))


def test_initial_values() -> None:
    bounded = EmbeddingBagCollection([EmbeddingBagConfig(100, 4, "t")])
    values = bounded.state_dict()["embedding_bags.t.weight"]
    assert 0.05 < values.abs().max() <= 0.1  # ± sqrt(1 / 100)
    assert len(bounded.embedding_bags["t"].table) == 0
    between = EmbeddingBagConfig(100, 4, "t", weight_init_min=1.0, weight_init_max=2.0)
    values = EmbeddingBagCollection([between]).state_dict()["embedding_bags.t.weight"]
    assert 1.0 <= values.min() < values.max() <= 2.0
    filled = EmbeddingBagCollection(
        [EmbeddingBagConfig(5, 2, "t", init_fn=lambda rows: rows.copy_(torch.arange(10.0).view(5, 2)))]
    )
    one = KeyedJaggedTensor.from_lengths_sync(["t"], torch.tensor([3]), torch.tensor([1]))
    assert filled(one).values().tolist() == [[6.0, 7.0]]
    filled.load_state_dict({"embedding_bags.t.weight": torch.zeros(5, 2)})
    filled.reset_parameters()
    assert filled(one).values().tolist() == [[6.0, 7.0]]
    seen, unseen = (
        bounded.train()(one.__class__.from_lengths_sync(["t"], torch.tensor([7]), torch.tensor([1]))),
        bounded.eval(),
    )
    assert torch.equal(seen.values(), bounded.state_dict()["embedding_bags.t.weight"][[7]])
    assert unseen(one).values().abs().sum() > 0


def test_states_are_torchrecs_and_come_back() -> None:
    first, second = bags(), bags()
    given = {
        "embedding_bags.t_user.weight": torch.randn(10, 2),
        "embedding_bags.t_both.weight": torch.randn(10, 3),
    }
    first.load_state_dict(given)
    assert {key: value.tolist() for key, value in first.state_dict().items()} == {
        k: v.tolist() for k, v in given.items()
    }
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(batch()).values(), second(batch()).values())
    before = first.state_dict()
    with pytest.raises(RuntimeError, match=r"t_user\.weight must be floats \[10, 2\]; got torch\.float32 \[9, 2\]"):
        first.load_state_dict({**given, "embedding_bags.t_user.weight": torch.zeros(9, 2)})
    assert torch.equal(first.state_dict()["embedding_bags.t_user.weight"], before["embedding_bags.t_user.weight"])
    with pytest.raises(RuntimeError, match="t_both"):
        first.load_state_dict({"embedding_bags.t_user.weight": torch.zeros(10, 2)})


def test_our_own_checkpoints_hold_rows_and_slots_once(tmp_path: Path) -> None:
    model = nn.ModuleDict({"ebc": bags(), "over": nn.Linear(8, 1)})

    def step() -> float:
        loss = model["over"](model["ebc"](batch()).values()).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    tables = SparseAdagrad(filter_out_sparse_param(model), lr=0.1)
    optimizer = join(torch.optim.SGD(model["over"].parameters(), lr=0.1), tables)
    step()
    assert list(dense_state(model)) == ["over.weight", "over.bias"]
    manager = CheckpointManager(tmp_path, asynchronous=False)
    manager.register(model=model, optimizer=optimizer)
    manager.save(1)
    went_on = [step(), step()]
    manager.restore()
    assert [step(), step()] == went_on
    manager.close()


def test_collections_are_moved_and_copied_as_tables_are() -> None:
    with pytest.raises(RecisError, match="an EmbeddingBagCollection cannot be deep-copied"):
        copy.deepcopy(bags())
    with pytest.raises(RecisError, match="table 't_user' cannot be deep-copied"):
        copy.deepcopy(bags().embedding_bags["t_user"].weight)
    with pytest.raises(RecisError, match="cannot be cast to torch.float16"):
        bags().half()
    with pytest.raises(TypeError, match="tables must be a list of EmbeddingBagConfigs; got EmbeddingBagConfig"):
        EmbeddingBagCollection(EmbeddingBagConfig(1, 1, "a"))  # type: ignore[arg-type]


def test_parameters_have_shapes_and_no_rows() -> None:
    ebc = bags()
    named = dict(ebc.named_parameters())
    assert {name: list(parameter.shape) for name, parameter in named.items()} == {
        "embedding_bags.t_user.weight": [10, 2],
        "embedding_bags.t_both.weight": [10, 3],
    }
    assert sum(parameter.numel() for parameter in ebc.parameters()) == 50
    weight = named["embedding_bags.t_user.weight"]
    for use in (lambda: weight.sum(), lambda: weight.data, lambda: weight + 1, lambda: nn.init.zeros_(weight)):
        with pytest.raises(Exception, match="would need the rows of a table"):
            use()
    weight.requires_grad = False
    out = ebc(batch())
    out.values().sum().backward()
    assert len(ebc.embedding_bags["t_user"].table.grad()[0]) == 0
    assert len(ebc.embedding_bags["t_both"].table.grad()[0]) == 5
    ebc.requires_grad_(False)
    assert not any(parameter.requires_grad for parameter in ebc.parameters())
    assert ebc.to(torch.float32) is ebc


def test_rows_of_bfloat16_come_out_as_floats() -> None:
    ebc = EmbeddingBagCollection([EmbeddingBagConfig(10, 4, "t", data_type=DataType.BF16)])
    ebc.load_state_dict({"embedding_bags.t.weight": torch.full((10, 4), 1 / 3)})
    out = ebc(KeyedJaggedTensor.from_lengths_sync(["t"], torch.tensor([1]), torch.tensor([1]))).values()
    assert (out.dtype, ebc.state_dict()["embedding_bags.t.weight"].dtype) == (torch.float32, torch.bfloat16)
    assert out[0, 0].item() == torch.tensor(1 / 3, dtype=torch.bfloat16).item()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (EmbeddingBagConfig(10, 2, "a.b"), "without '.'"),
        (EmbeddingBagConfig(10, 2, "items"), "method of nn.ModuleDict; got 'items'"),
        (EmbeddingBagConfig(0, 2, "a"), "at least 1; got 0"),
        (EmbeddingBagConfig(10, 2, "a", data_type=DataType.INT8), "must be FP32 or BF16; got INT8"),
        (EmbeddingBagConfig(10, 2, "a", pooling=PoolingType.NONE), "must be SUM or MEAN; got NONE"),
        (EmbeddingBagConfig(10, 2, "a", need_pos=True), "need_pos of table 'a' must be left out"),
        (
            EmbeddingBagConfig(10, 2, "a", use_virtual_table=True, init_fn=nn.init.zeros_),
            "use_virtual_table=True has none",
        ),
        (EmbeddingBagConfig(10, 2, "a", feature_names=["f", "f"]), "each feature once"),
    ],
)
def test_wrong_configs_are_refused(config: EmbeddingBagConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EmbeddingBagCollection([config])


def test_options_of_tables() -> None:
    ebc = bags(table_options={"*": {"seed": 3}, "t_both": {"storage": "own"}})
    assert ebc.embedding_bags["t_user"].table.option.seed == 3
    assert ebc.embedding_bags["t_both"].table.option.storage == "own"
    assert len(ebc.engine.stats()) == 2
    with pytest.raises(ValueError, match=r"got \['t_other'\]"):
        bags(table_options={"t_other": {}})
    with pytest.raises(ValueError, match=r"got \['combiner'\]"):
        bags(table_options={"*": {"combiner": "sum"}})
    with pytest.raises(TypeError, match="must be EmbeddingBagConfigs; got EmbeddingConfig"):
        EmbeddingBagCollection([EmbeddingConfig(10, 2, "a")])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="names of their own"):
        EmbeddingBagCollection([EmbeddingBagConfig(10, 2, "a"), EmbeddingBagConfig(10, 3, "a")])


def test_bags_given_once_are_expanded() -> None:
    inverse = (["t"], torch.tensor([[0, 1, 0]]))
    given = KeyedJaggedTensor(
        ["t"],
        torch.tensor([1, 2]),
        lengths=torch.tensor([1, 1]),
        stride_per_key_per_rank=[[2]],
        inverse_indices=inverse,
    )
    out = EmbeddingBagCollection([EmbeddingBagConfig(10, 2, "t")])(given).values()
    assert given.stride() == 3
    assert torch.equal(out[0], out[2])
    assert not torch.equal(out[0], out[1])
