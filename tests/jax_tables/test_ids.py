"""64-bit ids arrive whole, or are refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import recis_core.jax as rj
from recis_core.jax.ids import int64_of

WIDE = np.array([[0, 1, -1], [2**53 + 1, -(2**63), 2**63 - 1]])


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy, np.ndarray.tolist])
def test_every_bit_crosses(kind):
    split = rj.words(kind(WIDE))
    assert split.dtype == jnp.uint32
    assert split.shape == (2, 3, 2)
    np.testing.assert_array_equal(int64_of(split), WIDE)
    assert rj.words(split) is split


def test_narrow_integers_keep_their_sign():
    for ids in (np.array([-3, 4], np.int32), torch.tensor([-3, 4], dtype=torch.int8)):
        np.testing.assert_array_equal(int64_of(rj.words(ids)), [-3, 4])
    np.testing.assert_array_equal(int64_of(rj.words_of_int32(jnp.array([-3, 4]))), [-3, 4])
    np.testing.assert_array_equal(int64_of(rj.words(np.array([[3, 4]], np.uint32))), [[3, 4]])  # ids, and no words


def test_ids_that_jit_has_cut_are_refused():
    """Given to a jitted function as they are, 64-bit ids are int32 inside of it."""
    told = r"words, uint32 \[..., 2\], or int64; got jax int32 \[2, 3\].*call words\(ids\) on the NumPy array"
    with pytest.raises(TypeError, match=told):
        jax.jit(rj.words)(WIDE)
    with pytest.raises(TypeError, match="call words"):
        rj.lookup(rj.create(rj.TableConfig("item", 4)), jnp.arange(3))


def test_under_x64_int64_is_split_inside_jit():
    with jax.enable_x64(True):
        split = jax.jit(rj.words)(WIDE)
    np.testing.assert_array_equal(int64_of(split), WIDE)


def test_what_are_no_ids():
    with pytest.raises(TypeError, match="must be integers"):
        rj.words(np.array([1.5]))
    with pytest.raises(TypeError, match="words_of_int32 takes"):
        rj.words_of_int32(np.array([1]))
    with pytest.raises(ValueError, match="size must hold 3 ids; got 2"):
        rj.padded([1, 2, 3], 2)


def test_padding():
    split, valid = rj.padded([7, -8])
    assert split.shape == (64, 2)
    assert valid.tolist() == [True, True] + [False] * 62
    np.testing.assert_array_equal(int64_of(split)[:2], [7, -8])
