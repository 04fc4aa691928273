"""An engine: one table by default, absent features, cut ids, weights, means, tiles, per-feature trainable and admission."""

from __future__ import annotations

import pytest
import torch

from recis_core.compat.recis.nn import DynamicEmbedding, EmbeddingEngine, EmbeddingOption
from recis_core.compat.recis.nn.hashtable_hook import AdmitHook
from recis_core.compat.recis.nn.initializers import ConstantInitializer, UniformInitializer
from recis_core.compat.recis.nn.modules.hashtable import filter_out_sparse_param
from recis_core.compat.recis.optim import SparseAdamW
from recis_core.compat.recis.ragged.tensor import RaggedTensor


def ragged(values, offsets, weight=None) -> RaggedTensor:
    weights = None if weight is None else torch.tensor(weight)
    return RaggedTensor(torch.tensor(values), torch.tensor(offsets, dtype=torch.int32), weight=weights)


def with_rows(engine: EmbeddingEngine, rows: dict[int, list[float]]) -> None:
    """Set rows of the first storage by encoded id."""
    table = next(iter(engine._ht.values()))._hashtable
    table.insert(torch.tensor(list(rows)), torch.tensor(list(rows.values())))


def test_defaults_are_recis() -> None:
    option = EmbeddingOption()
    assert (option.embedding_dim, option.shared_name, option.block_size) == (16, "embedding", 10240)
    assert isinstance(option.initializer, ConstantInitializer)
    assert option.combiner_kwargs is None
    assert option.children == ["embedding"]


@pytest.mark.parametrize(
    ("wrong", "error", "match"),
    [
        ({"combiner": "max"}, ValueError, "combiner must be sum, mean or tile; got 'max'"),
        ({"combiner": "tile"}, RuntimeError, "tile_len"),
        ({"fp16_enabled": True}, ValueError, "int8 tables alone"),
        ({"dtype": torch.int8}, ValueError, "float32 or bfloat16"),
    ],
)
def test_wrong_options_are_refused(wrong: dict, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        EmbeddingOption(**wrong)


def test_absent_features_are_left_out_and_others_pass(fresh) -> None:
    name = fresh("t")
    engine = EmbeddingEngine({f: EmbeddingOption(4, shared_name=name) for f in ("a", "b")})
    out = engine({"a": torch.tensor([[1], [2]]), "label": torch.ones(2), "raw": ragged([1, 2, 3], [0, 1, 3])})
    assert set(out) == {"a", "label", "raw"}
    assert out["raw"].tolist() == [[1, 0], [2, 3]]  # a RaggedTensor without an option comes out dense
    assert out["a"].shape == (2, 4)


def test_a_sparse_tensor_without_an_option_is_refused(fresh) -> None:
    engine = EmbeddingEngine({"a": EmbeddingOption(4, shared_name=fresh("t"))})
    with pytest.raises(TypeError, match="no sparse tensors; x are"):
        engine({"a": torch.tensor([[1]]), "x": torch.eye(2).to_sparse()})


def test_ids_of_an_engine_have_52_bits_and_their_tables_number(fresh) -> None:
    engine = EmbeddingEngine({f: EmbeddingOption(2, shared_name=fresh(f)) for f in ("a", "b")})
    engine({"a": torch.tensor([[5 | 1 << 60]]), "b": torch.tensor([[-1]])})
    table = engine._ht[engine._fea_to_ht["a"]]._hashtable
    assert engine._fea_to_ht["a"] == engine._fea_to_ht["b"]
    assert [engine._fea_to_group[f].encode_id(f) for f in ("a", "b")] == [0, 1]
    assert sorted(table.ids().tolist()) == [5, (1 << 53) - 1]


def test_tables_of_options_that_differ_in_storage_are_refused(fresh) -> None:
    name = fresh("t")
    with pytest.raises(RuntimeError, match=f"features of table '{name}' must agree"):
        EmbeddingEngine({"a": EmbeddingOption(4, shared_name=name), "b": EmbeddingOption(8, shared_name=name)})
    EmbeddingEngine({"a": EmbeddingOption(4, shared_name=name)})  # the refused one took no name


@pytest.mark.parametrize(
    ("ids", "divisor"), [(2, 0.5 + 1.5), (40, 40)], ids=["few ids an offset: Σ w", "many: the count"]
)
def test_mean_divides_by_weights_or_by_the_count(fresh, ids: int, divisor: float) -> None:
    engine = EmbeddingEngine({"f": EmbeddingOption(1, shared_name=fresh("t"), combiner="mean")})
    with_rows(engine, {i: [float(i)] for i in range(ids)})
    weight = [0.5, 1.5] if ids == 2 else [0.5] * ids
    out = engine({"f": ragged(list(range(ids)), [0, ids], weight)})["f"]
    torch.testing.assert_close(out.item(), sum(i * w for i, w in zip(range(ids), weight, strict=True)) / divisor)


def test_the_features_of_one_call_decide_the_divisor_together(fresh) -> None:
    name = fresh("t")
    option = EmbeddingOption(1, shared_name=name, combiner="mean")
    engine = EmbeddingEngine({"few": option, "many": option})
    with_rows(engine, {1: [1.0]})
    inputs = {"few": ragged([1, 1], [0, 2], [0.5, 0.5]), "many": ragged([1] * 30, [0, 30])}
    assert engine({"few": inputs["few"]})["few"].item() == 1
    assert engine(inputs)["few"].item() == 0.5  # 32 ids, 3 offsets: the count divides


def test_an_empty_bag_is_zero_and_sum_takes_weights(fresh) -> None:
    engine = EmbeddingEngine({f: EmbeddingOption(1, shared_name=fresh("t"), combiner=f) for f in ("sum", "mean")})
    with_rows(engine, {1: [2.0]})
    bags = ragged([1, 1], [0, 2, 2], [0.5, 2.0])
    assert engine({"sum": bags, "mean": ragged([1], [0, 1])})["sum"].tolist() == [[5.0], [0.0]]
    unweighted = EmbeddingEngine({"f": EmbeddingOption(1, shared_name=fresh("t"), use_weight=False)})
    with_rows(unweighted, {1: [2.0]})
    assert unweighted({"f": bags})["f"].tolist() == [[4.0], [0.0]]


def test_tile_takes_no_weights_and_its_shape_follows_the_input(fresh) -> None:
    option = EmbeddingOption(2, shared_name=fresh("t"), combiner="tile", combiner_kwargs={"tile_len": 3})
    engine = EmbeddingEngine({"f": option})
    with_rows(engine, {1: [1.0, 2.0]})
    out = engine({"f": ragged([1, 1], [0, 2], [5.0, 7.0])})["f"]
    assert out.tolist() == [[[1, 2], [1, 2], [0, 0]]]
    assert engine({"f": torch.tensor([[1]])})["f"].tolist() == [[1, 2, 0, 0, 0, 0]]


def test_features_of_a_table_may_differ_in_trainable_and_admission(fresh) -> None:
    name = fresh("t")
    engine = EmbeddingEngine(
        {
            "trained": EmbeddingOption(1, shared_name=name),
            "frozen": EmbeddingOption(1, shared_name=name, trainable=False),
            "read": EmbeddingOption(1, shared_name=name, admit_hook=AdmitHook("ReadOnly")),
        }
    )
    out = engine({"trained": torch.tensor([[1]]), "frozen": torch.tensor([[2]]), "read": torch.tensor([[3]])})
    assert [out[f].requires_grad for f in ("trained", "frozen")] == [True, False]
    assert next(iter(engine._ht.values()))._hashtable.ids().tolist() == [1, 2]
    optimizer = SparseAdamW(filter_out_sparse_param(engine), lr=0.5, weight_decay=0)
    (out["trained"] * 1.0).sum().backward()
    optimizer.step()
    after = engine.eval()({"trained": torch.tensor([[1], [2]])})["trained"][:, 0]
    torch.testing.assert_close(after, torch.tensor([-0.5, 0.0]), rtol=0, atol=1e-6)


def test_grad_reduce_by_id_of_an_engine_is_the_sum_on_one_rank(fresh) -> None:
    engine = EmbeddingEngine({"f": EmbeddingOption(1, shared_name=fresh("t"), grad_reduce_by="id")})
    (engine({"f": torch.tensor([[3], [3], [4]])})["f"] * torch.tensor([[1.0], [3.0], [5.0]])).sum().backward()
    table = next(iter(engine._ht.values()))._hashtable
    assert sorted(table.grad().coalesce().values()[:, 0].tolist()) == [4, 5]


def test_dynamic_embedding_keeps_whole_ids_and_takes_weights(fresh) -> None:
    embedding = DynamicEmbedding(EmbeddingOption(1, shared_name=fresh("t"), initializer=UniformInitializer()))
    ids = torch.tensor([[1, 1 << 60]])
    rows = embedding(ids.reshape(2, 1)).detach()
    assert embedding._hashtable.ids().tolist() == [1, 1 << 60]
    assert 0 <= rows.min() <= rows.max() <= 1
    torch.testing.assert_close(embedding(ids, torch.tensor([[2.0, 3.0]])), 2 * rows[:1] + 3 * rows[1:])
    with pytest.raises(ValueError, match="input_weights must be one an id"):
        embedding(ids, torch.ones(3))
    with pytest.raises(TypeError, match="must be ids \\[B, F\\] or a RaggedTensor; got list"):
        embedding([1, 2])


def test_names_with_dots_and_tiles_of_a_dynamic_embedding(fresh) -> None:
    option = EmbeddingOption(2, shared_name=fresh("a.b"), combiner="tile", combiner_kwargs={"tile_len": 2})
    assert DynamicEmbedding(option)(torch.tensor([[1], [2]])).shape == (2, 4)
