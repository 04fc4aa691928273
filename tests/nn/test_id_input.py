"""Ids of other integer types and of NumPy, what is refused, and padding that counts for nothing."""

import numpy as np
import pytest
import torch

from recis_core.io import hash_strings
from recis_core.nn import EmbeddingEngine, EmbeddingOption, HashTable
from recis_core.optim import SparseSGD
from recis_core.ragged import RaggedTensor

IDS = [[3, 5], [5, 9]]
TYPES = [torch.int8, torch.int16, torch.int32, torch.uint8, torch.uint16, torch.uint32, torch.uint64]


def engine_of(backend="torch", **options):
    return EmbeddingEngine({"f": EmbeddingOption(4, backend=backend, **options)})


def rows(engine, value):
    return engine({"f": value})["f"].detach()


class KeyedJagged:
    """As torchrec's, of int32."""

    def __init__(self, values, lengths):
        self._values, self._lengths = values, lengths

    def keys(self):
        return ["f"]

    def values(self):
        return self._values

    def weights_or_none(self):
        return None

    def lengths(self):
        return self._lengths

    def stride(self):
        return len(self._lengths)


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_narrow_integers_are_widened(eager_backend, kind):
    engine, wide = engine_of(eager_backend), torch.tensor(IDS)
    wanted = rows(engine, wide)
    narrow = wide.to(kind)
    assert torch.equal(rows(engine, narrow), wanted)
    assert torch.equal(rows(engine, narrow.numpy()), wanted)
    if kind != torch.uint8:
        assert torch.equal(rows(engine, RaggedTensor(narrow.reshape(-1), torch.tensor([0, 2, 4]))), wanted)
    table = engine.table("f")
    assert torch.equal(table(narrow), table(wide))
    assert torch.equal(table(narrow.numpy()), table(wide))
    assert table.ids().tolist() == [3, 5, 9]


def test_a_keyed_jagged_tensor_of_int32(eager_backend):
    engine = engine_of(eager_backend)
    jagged = KeyedJagged(torch.tensor([3, 5, 5, 9], dtype=torch.int32), torch.tensor([2, 2], dtype=torch.int32))
    assert torch.equal(engine(jagged)["f"], engine({"f": torch.tensor(IDS)})["f"])


def test_arrays_of_any_layout():
    engine, wanted = engine_of(), [3, 5, 9]
    frozen = np.array([3, 5, 9])
    frozen.setflags(write=False)
    for array in (frozen, np.array([3, 5, 9], ">i4"), np.array([3, 0, 5, 0, 9, 0])[::2]):
        rows(engine, array)
        assert engine.table("f").ids().tolist() == wanted


def test_unsigned_64_bits_keep_their_bits():
    engine = engine_of()
    rows(engine, np.array([2**64 - 1], np.uint64))
    assert engine.table("f").ids().tolist() == [-1]


def test_insert_takes_narrow_ids():
    table = HashTable([2], backend="torch")
    table.insert(torch.tensor([1, 2], dtype=torch.int32), torch.ones(2, 2))
    table.insert(np.array([7], np.int16), torch.ones(1, 2))
    assert table.ids().tolist() == [1, 2, 7]


TEXT = [["a"], ("a", "b"), "a", np.array(["a"]), np.array(["a"], object), np.array([b"a"])]


@pytest.mark.parametrize("value", TEXT, ids=repr)
def test_text_is_told_to_be_hashed(value):
    for call in (lambda: rows(engine_of(), value), lambda: HashTable([2], backend="torch")(value)):
        with pytest.raises(TypeError, match="recis_core.io.hash_strings") as error:
            call()
        assert ".long()" not in str(error.value)


def test_text_as_readers_give_it_is_told_to_be_hashed():
    text = RaggedTensor(torch.tensor([97, 98], dtype=torch.uint8), [torch.tensor([0, 1, 2]), torch.tensor([0, 1, 2])])
    with pytest.raises(TypeError, match="recis_core.io.hash_strings"):
        rows(engine_of(), text)
    assert hash_strings(text).values().tolist() == hash_strings(["a", "b"]).tolist()
    assert rows(engine_of(), hash_strings(text)).shape == (2, 4)


@pytest.mark.parametrize(
    "value", [torch.tensor([1.5]), torch.tensor([1], dtype=torch.bfloat16), np.array([1.0])], ids=repr
)
def test_floats_are_refused(value):
    engine = engine_of()
    for call in (lambda: rows(engine, value), lambda: engine.table("f")(value)):
        with pytest.raises(TypeError, match="must be integers; got torch"):
            call()
    assert len(engine.table("f").ids()) == 0


@pytest.mark.parametrize("value", [[1, 2], 3, None, np.array(["2024-01-01"], "datetime64[D]")], ids=repr)
def test_other_things_are_refused(value):
    with pytest.raises(TypeError, match="ids of feature 'f' must be integers"):
        rows(engine_of(), value)


def trained(backend, value, **options):
    """(output, {id: row after a step of SGD})"""
    engine = engine_of(backend, **options)
    optimizer = SparseSGD(engine.sparse_parameters(), lr=0.5)
    out = engine({"f": value})["f"]
    values = out.values() if isinstance(out, RaggedTensor) else out
    (values * torch.arange(1.0, 1 + values.numel()).reshape(values.shape)).sum().backward()
    optimizer.step()
    table = engine.table("f")
    return out, dict(zip(table.ids().tolist(), table.embeddings().tolist(), strict=True))


@pytest.mark.parametrize("combiner", ["sum", "mean", "sqrtn"])
@pytest.mark.parametrize("weighted", [False, True])
def test_padding_is_as_if_it_were_not_there(backend, combiner, weighted):
    ids, real = torch.tensor([0, 3, 0, 5, 3, 0, 0]), torch.tensor([3, 5, 3])
    weight = torch.tensor([9.0, 0.5, 9.0, 2.0, 1.5, 9.0, 9.0])
    padded = RaggedTensor(ids, torch.tensor([0, 4, 5, 7]), weight=weight if weighted else None)
    plain = RaggedTensor(real, torch.tensor([0, 2, 3, 3]), weight=weight[ids != 0] if weighted else None)
    got, rows_got = trained(backend, padded, combiner=combiner, padding_id=0)
    wanted, rows_wanted = trained(backend, plain, combiner=combiner)
    assert torch.equal(got, wanted)
    assert rows_got == rows_wanted
    assert set(rows_got) == {3, 5}
    assert not got[2].any()


def test_padding_of_dense_ids_and_of_a_tile():
    ids = torch.tensor([[7, 3, -1], [-1, -1, -1], [-1, 7, 5]])
    got, rows_got = trained("torch", ids, combiner="tile", combiner_kwargs={"tile_len": 2}, padding_id=-1)
    wanted = RaggedTensor(torch.tensor([7, 3, 7, 5]), torch.tensor([0, 2, 2, 4]))
    assert torch.equal(got, trained("torch", wanted, combiner="tile", combiner_kwargs={"tile_len": 2})[0])
    assert set(rows_got) == {3, 5, 7}


def test_padding_keeps_its_place_where_nothing_is_pooled():
    ids = RaggedTensor(torch.tensor([0, 3, 0, 5]), torch.tensor([0, 2, 4]))
    out, rows_got = trained("torch", ids, combiner="none", padding_id=0)
    alone, rows_alone = trained("torch", torch.tensor([[3], [5]]), combiner="none")
    assert out.offsets()[0].tolist() == [0, 2, 4]
    assert torch.equal(out.values()[[1, 3]], alone.values())
    assert not out.values()[[0, 2]].any()
    assert set(rows_got) == {3, 5}


def test_padding_alone_makes_no_row():
    engine = engine_of(padding_id=0)
    out = engine({"f": torch.zeros(2, 3, dtype=torch.int32)})["f"]
    out.sum().backward()
    assert (out.tolist(), engine.table("f").ids().tolist()) == ([[0.0] * 4] * 2, [])


def test_padding_is_a_features_not_its_tables():
    options = {"a": EmbeddingOption(2, shared_name="t", padding_id=0), "b": EmbeddingOption(2, shared_name="t")}
    engine = EmbeddingEngine(options)
    engine({"a": torch.tensor([0, 1]), "b": torch.tensor([0, 2])})
    assert engine.table("t").ids().tolist() == [0, 1, 2]


@pytest.mark.parametrize("value", [0.0, True, "0", 1 << 63])
def test_padding_that_is_no_id(value):
    with pytest.raises(ValueError, match="padding_id must be an id, an integer of 64 bits"):
        EmbeddingOption(2, padding_id=value)


@pytest.mark.parametrize("kind", [">i8", "<u4", "?", "longlong", "ulonglong"])
def test_arrays_turned_around(kind):
    engine, ids = engine_of(), np.array([[3, 5], [5, 9]]).astype(kind)
    wanted = rows(engine, torch.from_numpy(ids.astype(np.int64)[::-1].copy()))
    assert np.array_equal(rows(engine, ids[::-1]), wanted)
    assert np.array_equal(rows(engine, np.asfortranarray(ids[::-1])), wanted)
