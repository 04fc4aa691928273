"""The engine: what features become, which tables they share, and what reaches the tables."""

import pytest
import torch
from torch import nn

from recis_core.nn import (
    AdmitHook,
    ConstantInitializer,
    DynamicEmbedding,
    EmbeddingEngine,
    EmbeddingOption,
    HashTable,
    filter_out_sparse_param,
)
from recis_core.optim import SparseSGD
from recis_core.ragged import RaggedTensor


def option(backend, dim=4, **kwargs):
    return EmbeddingOption(dim, backend=backend, **kwargs)


def ragged(*rows, weight=None):
    values = torch.tensor([v for row in rows for v in row], dtype=torch.int64)
    offsets = torch.tensor([0, *torch.tensor([len(r) for r in rows]).cumsum(0).tolist()])
    return RaggedTensor(values, offsets, weight=None if weight is None else torch.tensor(weight))


def rows_of(engine, name):
    table = engine.table(name)
    return dict(zip(table.ids().tolist(), table.embeddings(), strict=True))


def test_designs_sample_makes_two_tables(backend):
    engine = EmbeddingEngine({"user": option(backend, 64), "item": option(backend, 64)})
    out = engine({"user": torch.tensor([1, 2]), "item": torch.tensor([1, 2])})
    assert set(engine.sparse_parameters()) == {"user", "item"}
    assert out["user"].shape == (2, 64)
    assert not torch.equal(out["user"], out["item"])
    assert engine.table("user").physical is engine.table("item").physical


def test_one_shared_name_makes_one_table(backend):
    engine = EmbeddingEngine({"a": option(backend, shared_name="t"), "b": option(backend, shared_name="t")})
    out = engine({"a": torch.tensor([7, 8]), "b": torch.tensor([8, 7])})
    assert list(engine.sparse_parameters()) == ["t"]
    assert torch.equal(out["a"], out["b"].flip(0))
    assert engine.table("t").ids().tolist() == [7, 8]


def test_other_attributes_make_other_storage(backend):
    engine = EmbeddingEngine({"a": option(backend, 4), "b": option(backend, 8), "c": option(backend, 4, seed=1)})
    assert len({table.physical for table in engine.sparse_parameters().values()}) == 3


def test_options_for_one_table_must_agree():
    with pytest.raises(ValueError, match="share table 't' must agree on embedding_dim"):
        EmbeddingEngine({"a": option("torch", 4, shared_name="t"), "b": option("torch", 8, shared_name="t")})


def test_features_without_an_option_pass_through(backend):
    label = torch.ones(2)
    out = EmbeddingEngine({"a": option(backend)})({"a": torch.tensor([1, 2]), "label": label})
    assert out["label"] is label
    assert list(out) == ["a", "label"]


@pytest.mark.parametrize("combiner", ["sum", "mean", "sqrtn"])
def test_pooling_of_ragged_weighted_bags(backend, combiner):
    engine = EmbeddingEngine({"f": option(backend, combiner=combiner)})
    out = engine({"f": ragged([5, 6], [], [5, 5, 2**60], weight=[1.0, 2.0, 0.5, 0.25, 4.0])})["f"]
    e = rows_of(engine, "f")
    first, last = e[5] + 2 * e[6], 0.75 * e[5] + 4 * e[2**60]
    divisors = {"sum": (1, 1), "mean": (3, 4.75), "sqrtn": (5**0.5, (0.25 + 0.0625 + 16) ** 0.5)}[combiner]
    torch.testing.assert_close(out, torch.stack([first / divisors[0], torch.zeros(4), last / divisors[1]]))


def test_use_weight_false_ignores_weights(backend):
    engine = EmbeddingEngine({"f": option(backend, use_weight=False)})
    out = engine({"f": ragged([5, 6], weight=[3.0, 9.0])})["f"]
    torch.testing.assert_close(out[0], rows_of(engine, "f")[5] + rows_of(engine, "f")[6])


def test_tile_lays_rows_side_by_side(backend):
    engine = EmbeddingEngine({"f": option(backend, combiner="tile", combiner_kwargs={"tile_len": 2})})
    out = engine({"f": ragged([1], [2, 3, 4], [])})["f"]
    e = rows_of(engine, "f")
    torch.testing.assert_close(
        out, torch.stack([torch.cat([e[1], torch.zeros(4)]), torch.cat([e[2], e[3]]), torch.zeros(8)])
    )


def test_none_keeps_rows_ragged(backend):
    engine = EmbeddingEngine({"f": option(backend, combiner="none")})
    out = engine({"f": ragged([1], [], [2, 1], weight=[1.0, 2.0, 3.0])})["f"]
    e = rows_of(engine, "f")
    assert out.offsets()[-1].tolist() == [0, 1, 1, 3]
    torch.testing.assert_close(out.values(), torch.stack([e[1], 2 * e[2], 3 * e[1]]))


def test_two_ragged_levels_give_three_dimensions(backend):
    value = RaggedTensor(torch.tensor([1, 2, 3]), [torch.tensor([0, 2, 3]), torch.tensor([0, 1, 1, 3])])
    engine = EmbeddingEngine({"f": option(backend)})
    out = engine({"f": value})["f"]
    e = rows_of(engine, "f")
    assert out.shape == (2, 2, 4)
    torch.testing.assert_close(out[1, 0], e[2] + e[3])
    assert not out[1, 1].any()


def test_half_precision_outputs(backend):
    engine = EmbeddingEngine(
        {"a": option(backend, fp16_enabled=True), "b": option(backend, output_dtype=torch.bfloat16)}
    )
    out = engine({"a": torch.tensor([1]), "b": torch.tensor([1])})
    assert (out["a"].dtype, out["b"].dtype) == (torch.float16, torch.bfloat16)
    (out["a"].float().sum() + out["b"].float().sum()).backward()
    index, grad = engine.table("a").grad()
    assert len(index) == 1
    assert torch.equal(grad, torch.ones(1, 4))


def test_a_model_gets_its_gradients_and_tables_theirs(backend):
    engine = EmbeddingEngine({"f": option(backend)})
    out = engine({"f": torch.tensor([3, 3, 9])})["f"]
    out.relu_()  # in place on an output is allowed
    (out * torch.arange(3.0)[:, None]).sum().backward()
    expected = {i: (rows_of(engine, "f")[i] > 0).float() * k for i, k in ((3, 1), (9, 2))}
    index, grad = engine.table("f").grad()
    rows = engine.table("f").lookup_index(torch.tensor([3, 9])).tolist()
    found = dict(zip(index.tolist(), grad, strict=True))
    torch.testing.assert_close(found[rows[0]], expected[3])
    torch.testing.assert_close(found[rows[1]], expected[9])


def test_two_backwards_add_and_grad_of_outputs_works(backend):
    engine = EmbeddingEngine({"f": option(backend)})
    out = engine({"f": torch.tensor([4])})["f"]
    (direct,) = torch.autograd.grad(out.sum(), out, retain_graph=True)
    assert torch.equal(direct, torch.ones(1, 4))
    assert len(engine.table("f").grad()[0]) == 0
    out.sum().backward(retain_graph=True)
    out.sum().backward()
    assert torch.equal(engine.table("f").grad()[1], torch.full((1, 4), 2.0))


def test_gradients_of_weights_alone_leave_the_table_without(backend):
    weights = torch.tensor([0.5, 2.0], requires_grad=True)
    engine = EmbeddingEngine({"f": option(backend)})
    value = RaggedTensor(torch.tensor([1, 2]), torch.tensor([0, 2]), weight=weights)
    (grad,) = torch.autograd.grad(engine({"f": value})["f"].sum(), weights)
    e = rows_of(engine, "f")
    torch.testing.assert_close(grad, torch.stack([e[1].sum(), e[2].sum()]))
    assert len(engine.table("f").grad()[0]) == 0


def test_an_unused_output_counts_as_zeros(backend):
    engine = EmbeddingEngine({"a": option(backend), "b": option(backend), "c": option(backend, 8)})
    out = engine({name: torch.tensor([1]) for name in "abc"})
    out["a"].sum().backward()
    assert torch.equal(engine.table("a").grad()[1], torch.ones(1, 4))
    assert not engine.table("b").grad()[1].any()


def test_double_backward_is_refused(backend):
    engine = EmbeddingEngine({"f": option(backend)})
    weights = torch.ones(1, requires_grad=True)
    out = engine({"f": RaggedTensor(torch.tensor([1]), torch.tensor([0, 1]), weight=weights)})["f"]
    (grad,) = torch.autograd.grad(out.square().sum(), weights, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_grad_reduce_by_id_takes_the_mean_of_occurrences(backend):
    engine = EmbeddingEngine({"f": option(backend, grad_reduce_by="id")})
    out = engine({"f": torch.tensor([1, 1, 1, 2])})["f"]
    (out * torch.tensor([1.0, 2.0, 6.0, 5.0])[:, None]).sum().backward()
    index, grad = engine.table("f").grad()
    rows = engine.table("f").lookup_index(torch.tensor([1, 2])).tolist()
    assert {r: g[0].item() for r, g in zip(index.tolist(), grad, strict=True)} == {rows[0]: 3.0, rows[1]: 5.0}


def test_eval_finds_and_never_inserts(backend):
    engine = EmbeddingEngine({"f": option(backend), "g": option(backend, unknown="initial")})
    engine({"f": torch.tensor([1]), "g": torch.tensor([1])})
    engine.eval()
    out = engine({"f": torch.tensor([1, 2]), "g": torch.tensor([1, 2])})
    assert out["f"][0].any()
    assert not out["f"][1].any()
    assert out["g"][1].any()
    assert engine.table("f").ids().tolist() == [1]
    assert engine.table("f").stats()["unknown"] == 1
    engine.train()
    assert torch.equal(engine({"f": torch.tensor([2]), "g": torch.tensor([2])})["g"], out["g"][1:])


def test_read_only_hook_finds_only_in_training(backend):
    engine = EmbeddingEngine({"f": option(backend, admit_hook=AdmitHook("ReadOnly"))})
    assert not engine({"f": torch.tensor([1])})["f"].any()
    assert len(engine.table("f").ids()) == 0


def test_insertion_depends_on_training_not_on_grad_mode(backend):
    engine = EmbeddingEngine({"f": option(backend)})
    with torch.no_grad():
        assert not engine({"f": torch.tensor([1])})["f"].requires_grad
    assert engine.table("f").ids().tolist() == [1]


def test_untrainable_tables_stay_as_they_are(backend):
    engine = EmbeddingEngine({"f": option(backend, trainable=False)})
    assert not engine({"f": torch.tensor([1])})["f"].requires_grad


def test_empty_batches_work(backend):
    engine = EmbeddingEngine({"f": option(backend), "g": option(backend)})
    out = engine({"f": torch.zeros(0, dtype=torch.int64), "g": torch.tensor([1])})
    assert out["f"].shape == (0, 4)
    (out["f"].sum() + out["g"].sum()).backward()
    assert len(engine.table("g").grad()[0]) == 1


def test_initial_values_depend_on_seed_table_and_id_alone(backend):
    one = EmbeddingEngine({"f": option(backend), "other": option(backend)})
    two = EmbeddingEngine({"f": option("torch")})
    ids = torch.tensor([5, -(2**63), 2**63 - 1])
    a = one({"f": ids.flip(0), "other": ids})["f"].flip(0)
    assert torch.equal(a, two({"f": ids})["f"])


@pytest.mark.filterwarnings("ignore:gradients of tables f wait for an optimizer")
def test_activation_checkpointing_counts_once(backend):
    engine = EmbeddingEngine({"f": option(backend)})
    ids = torch.tensor([1, 2])
    for reentrant in (False, True):
        anchor = torch.ones(1, requires_grad=True)
        run = lambda x: engine({"f": ids})["f"].sin() * x  # noqa: E731
        out = torch.utils.checkpoint.checkpoint(run, anchor, use_reentrant=reentrant)
        out.sum().backward()
    stats = engine.table("f").stats()
    assert (stats["inserted"], stats["found"]) == (2, 2)
    _, grad = engine.table("f").grad()
    torch.testing.assert_close(grad.sum(), 2 * sum(row.cos().sum() for row in rows_of(engine, "f").values()))


def test_state_dict_holds_tables_by_slices_and_loads(backend):
    engine = EmbeddingEngine({"f": option(backend), "g": option(backend)})
    optimizer = SparseSGD(engine.sparse_parameters(), lr=0.5, momentum=0.9)
    engine({"f": torch.tensor([3, -1]), "g": torch.tensor([3])})["f"].sum().backward()
    optimizer.step()
    state = engine.state_dict()
    assert set(state) == {
        f"tables.{t}.slices.0-65536.{part}" for t in "fg" for part in ("ids", "rows", "slot.momentum")
    }
    assert state["tables.f.slices.0-65536.ids"].tolist() == [-1, 3]
    other = EmbeddingEngine({"f": option(backend), "g": option(backend)})
    other({"f": torch.tensor([99]), "g": torch.tensor([3])})
    other.load_state_dict(state)  # before an optimizer is there: its slots wait for it
    SparseSGD(other.sparse_parameters(), lr=0.5, momentum=0.9)
    again = other.state_dict()
    assert set(again) == set(state)
    assert all(torch.equal(again[key], state[key]) for key in state)


def test_load_state_dict_names_what_is_missing_and_wrong():
    engine = EmbeddingEngine({"f": option("torch")})
    with pytest.raises(RuntimeError, match=r"tables\.f\.slices\.0-65536\.ids"):
        engine.load_state_dict({})
    state = {
        "tables.f.slices.0-65536.ids": torch.tensor([1]),
        "tables.f.slices.0-65536.rows": torch.zeros(1, 8),
    }
    with pytest.raises(
        RuntimeError, match=r"rows torch.float32 \[n, 4\]; got torch.int64 \[1\] and torch.float32 \[1, 8\]"
    ):
        engine.load_state_dict(state)


def test_several_slices_load_as_one_table(backend):
    engine = EmbeddingEngine({"f": option(backend)})
    state = {}
    for beg, end, i in ((0, 100, 7), (100, 65536, 5)):
        state[f"tables.f.slices.{beg}-{end}.ids"] = torch.tensor([i])
        state[f"tables.f.slices.{beg}-{end}.rows"] = torch.full((1, 4), float(i))
    engine.load_state_dict(state)
    assert {i: row[0].item() for i, row in rows_of(engine, "f").items()} == {5: 5.0, 7: 7.0}


def test_moving_and_halving_a_model_leaves_tables_alone(backend):
    engine = EmbeddingEngine({"f": option(backend)})
    model = nn.Sequential(engine, nn.Linear(4, 1)).half()
    assert engine({"f": torch.tensor([1])})["f"].dtype == torch.float32
    assert model[1].weight.dtype == torch.float16


def test_keyed_jagged_tensors_are_taken_as_they_are(backend):
    class KeyedJaggedTensor:  # TorchRec's door, without TorchRec
        def keys(self):
            return ["a", "b"]

        def values(self):
            return torch.tensor([1, 2, 3])

        def weights_or_none(self):
            return None

        def lengths(self):
            return torch.tensor([1, 0, 1, 1])

        def offsets(self):
            return torch.tensor([0, 1, 1, 2, 3])

        def stride(self):
            return 2

    engine = EmbeddingEngine({"a": option(backend), "b": option(backend)})
    out = engine(KeyedJaggedTensor())
    assert not out["a"][1].any()
    torch.testing.assert_close(out["b"], torch.stack([rows_of(engine, "b")[i] for i in (2, 3)]))


def test_dynamic_embedding_takes_dense_ids_and_weights(backend):
    layer = DynamicEmbedding(option(backend, initializer=ConstantInitializer(0.5)))
    out = layer(torch.tensor([[1, 2], [3, 3]]), torch.tensor([[1.0, 3.0], [0.0, 2.0]]))
    torch.testing.assert_close(out, torch.tensor([[2.0] * 4, [1.0] * 4]))
    assert list(filter_out_sparse_param(layer)) == ["embedding"]


def test_hash_table_alone(backend):
    table = HashTable([4], name="t", backend=backend)
    rows = table(torch.tensor([[7, 8], [8, 9]]))
    assert rows.shape == (2, 2, 4)
    rows.sum().backward()
    index, grad = table.grad(acc_step=2)
    by_row = dict(zip(index.tolist(), grad[:, 0].tolist(), strict=True))
    assert [by_row[r] for r in table.lookup_index(torch.tensor([7, 8, 9])).tolist()] == [0.5, 1.0, 0.5]
    table.clear_grad()
    assert len(table.grad()[0]) == 0
    table.accept_grad(table.lookup_index(torch.tensor([9])), torch.full((1, 4), 3.0))
    assert table.grad()[1].tolist() == [[3.0] * 4]
    table.insert(torch.tensor([8, -5]), torch.arange(8.0).view(2, 4))
    assert table.ids().tolist() == [-5, 7, 8, 9]
    assert table.embeddings()[0].tolist() == [4.0, 5.0, 6.0, 7.0]
    table.clear()
    assert len(table.ids()) == 0
    with pytest.raises(ValueError, match="must be unique"):
        table.insert(torch.tensor([1, 1]), torch.zeros(2, 4))


def test_two_tables_of_one_name_in_a_model_are_refused():
    model = nn.ModuleList([EmbeddingEngine({"f": option("torch")}), EmbeddingEngine({"f": option("torch")})])
    with pytest.raises(ValueError, match="two tables of the model are named 'f'"):
        filter_out_sparse_param(model)


def test_a_dynamic_embeddings_group_is_its_options():
    one, other = object(), object()
    assert DynamicEmbedding(option("torch"), pg=one).engine.options["embedding"].pg is one
    assert DynamicEmbedding(option("torch", pg=one), pg=one).engine.options["embedding"].pg is one
    with pytest.raises(ValueError, match="different process groups"):
        DynamicEmbedding(option("torch", pg=one), pg=other)
