"""Every dtype and every layout across the bridge: same values, same memory, or an error that says why."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from recis_core.bridge import BridgeError, ids_to_jax, ids_to_torch, to_jax, to_torch

FLOATS = ["float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "complex64"]
NARROW = [*FLOATS, "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32"]
WIDE = ["int64", "uint64", "float64", "complex128"]
PATTERN = torch.arange(64, dtype=torch.uint8) % 2  # bytes that are a number, and a bool, in every dtype


def bits(tensor):
    return tensor.contiguous().view(torch.uint8).flatten().tolist()


def filled(dtype):
    return PATTERN.clone().view(getattr(torch, dtype))


@pytest.mark.parametrize("dtype", NARROW)
def test_a_dtype_crosses_both_ways_on_one_memory(dtype):
    tensor = filled(dtype)
    array = to_jax(tensor, copy=False)
    back = to_torch(array)
    assert array.shape == tuple(tensor.shape)
    assert str(array.dtype) == dtype
    assert array.unsafe_buffer_pointer() == tensor.data_ptr() == back.data_ptr()
    assert back.dtype == tensor.dtype
    assert bits(back) == bits(tensor) == np.asarray(array).view(np.uint8).tolist()


@pytest.mark.parametrize("dtype", WIDE)
def test_64_bits_cross_under_x64_only(dtype):
    tensor = filled(dtype)
    with pytest.raises(BridgeError, match=r"narrowed.*enable_x64"):
        to_jax(tensor)
    with jax.enable_x64(True):
        array = to_jax(tensor, copy=False)
        back = to_torch(array)
    assert str(array.dtype) == dtype
    assert array.unsafe_buffer_pointer() == tensor.data_ptr() == back.data_ptr()
    assert back.dtype == tensor.dtype
    assert bits(back) == bits(tensor)


LAYOUTS = {
    "contiguous": torch.arange(12.0).view(3, 4),
    "transposed": torch.arange(12.0).view(3, 4).T,
    "permuted": torch.arange(24.0).view(2, 3, 4).permute(2, 0, 1),
    "offset_of_64_bytes": torch.arange(32.0)[16:],
    "size_one_with_odd_stride": torch.arange(32.0).view(8, 4)[:1, :1],
    "empty": torch.zeros(0, 4),
    "empty_strided": torch.zeros(4, 4)[:, 1:1],
    "scalar": torch.tensor(3.0),
}
STRIDED = {
    "every_second_row": torch.arange(32.0).view(8, 4)[::2],
    "columns": torch.arange(32.0).view(8, 4)[:, 1:3],
    "expanded": torch.arange(4.0).expand(3, 4),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_dense_layout_shares_memory(name):
    tensor = LAYOUTS[name]
    array = to_jax(tensor, copy=False)
    assert array.shape == tuple(tensor.shape)
    assert np.array_equal(np.asarray(array), tensor.numpy())
    assert np.array_equal(np.asarray(jax.jit(lambda x: x + 1)(array)), tensor.numpy() + 1)
    if tensor.numel():
        assert array.unsafe_buffer_pointer() == tensor.data_ptr() == to_torch(array).data_ptr()
    assert torch.equal(to_torch(array), tensor)


@pytest.mark.parametrize("name", STRIDED)
def test_a_strided_layout_needs_copy(name):
    tensor = STRIDED[name]
    for copy in (None, False):
        with pytest.raises(BridgeError, match="without gaps.*copy=True"):
            to_jax(tensor, copy=copy)
    assert np.array_equal(np.asarray(to_jax(tensor, copy=True)), tensor.numpy())


def test_an_unaligned_start_copies_at_once_or_raises():
    tensor = torch.ones(2_000_001)[1:]
    with pytest.raises(BridgeError, match="multiple of 64 bytes; got 4"):
        to_jax(tensor, copy=False)
    array = to_jax(tensor)
    tensor.zero_()
    assert array.unsafe_buffer_pointer() != tensor.data_ptr()
    assert np.asarray(array).min() == 1


@pytest.mark.parametrize("name", LAYOUTS)
def test_copy_true_always_copies(name):
    tensor = LAYOUTS[name].clone()
    array = to_jax(tensor, copy=True)
    before = np.array(array)
    tensor.fill_(-1)
    assert np.array_equal(np.asarray(array), before)


@pytest.mark.parametrize(
    ("tensor", "error", "match"),
    [
        (torch.zeros(3, requires_grad=True), BridgeError, r"detach\(\).*jax_function"),
        (torch.zeros(3, dtype=torch.complex64).conj(), BridgeError, "resolve_conj"),
        (torch.ones(3, dtype=torch.complex64).conj().imag, BridgeError, "resolve_neg"),
        (torch.eye(3).to_sparse(), TypeError, "layout"),
        (torch.zeros(3, device="meta"), TypeError, "cpu or cuda; got meta"),
        (torch.zeros(3).to(torch.float8_e8m0fnu), TypeError, "no counterpart"),
        (np.zeros(3), TypeError, "got ndarray"),
    ],
    ids=["requires_grad", "conj", "neg", "sparse", "meta", "unknown_dtype", "numpy"],
)
def test_what_cannot_cross_says_why(tensor, error, match):
    with pytest.raises(error, match=match):
        to_jax(tensor)


def test_what_cannot_come_back_says_why():
    deleted = jnp.ones(3)
    deleted.delete()
    with pytest.raises(BridgeError, match="deleted or donated"):
        to_torch(deleted)
    with pytest.raises(TypeError, match="int4"):
        to_torch(jnp.zeros(3, "int4"))
    with pytest.raises(TypeError, match="got ndarray"):
        to_torch(np.zeros(3))
    with pytest.raises(TypeError, match="tracer"):
        jax.jit(lambda x: to_torch(x))(jnp.ones(3))


def test_the_other_side_keeps_memory_alive():
    tensor = torch.arange(100_000, dtype=torch.float32)
    array = to_jax(tensor)
    del tensor
    gc.collect()
    scratch = [torch.full((100_000,), -1.0) for _ in range(4)]
    assert np.array_equal(np.asarray(array), np.arange(100_000, dtype=np.float32))
    back = to_torch(array * 2)
    del array, scratch
    gc.collect()
    scratch = [jnp.full(100_000, -1.0) for _ in range(4)]
    assert torch.equal(back, torch.arange(100_000) * 2.0)
    del scratch


def test_a_result_not_yet_computed_is_waited_for():
    slow = jax.jit(lambda x: jax.lax.fori_loop(0, 50, lambda _, y: jnp.tanh(y @ y), x))
    start = jnp.ones((200, 200)) * 0.01
    assert np.array_equal(to_torch(slow(start)).numpy(), np.asarray(slow(start)))


IDS = torch.tensor([0, -1, 1, 2**52 + 1, 2**63 - 1, -(2**63)])


def test_ids_cross_as_words_on_one_memory():
    words = ids_to_jax(IDS, copy=False)
    assert words.shape == (6, 2)
    assert words.dtype == jnp.uint32
    assert words.unsafe_buffer_pointer() == IDS.data_ptr()
    low, high = np.asarray(words, dtype=np.uint64).T
    assert np.array_equal((low + (high << np.uint64(32))).view(np.int64), IDS.numpy())
    assert torch.equal(ids_to_torch(words), IDS)
    assert ids_to_torch(words).data_ptr() == IDS.data_ptr()


def test_ids_of_any_shape():
    assert ids_to_jax(torch.zeros(0, dtype=torch.int64)).shape == (0, 2)
    assert ids_to_torch(ids_to_jax(torch.zeros(0, dtype=torch.int64))).shape == (0,)
    assert ids_to_jax(torch.tensor(5)).shape == (1, 2)
    assert torch.equal(ids_to_torch(ids_to_jax(IDS[1:])), IDS[1:])
    assert torch.equal(ids_to_torch(ids_to_jax(IDS.view(2, 3).T, copy=True)), IDS.view(2, 3).T.flatten())
    assert ids_to_jax(IDS, copy=True).unsafe_buffer_pointer() != IDS.data_ptr()


def test_bad_ids_say_why():
    with pytest.raises(BridgeError, match="contiguous.*copy=True"):
        ids_to_jax(IDS[::2])
    with pytest.raises(TypeError, match="int64 or uint64.*torch.int32"):
        ids_to_jax(IDS.int())
    with pytest.raises(TypeError, match="got list"):
        ids_to_jax([1, 2])
    with pytest.raises(ValueError, match=r"uint32 \[N, 2\]; got int32 \[3\]"):
        ids_to_torch(jnp.zeros(3, jnp.int32))
