"""Arrow columns to tensors: values, nulls, slices, and whose memory it is."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
import torch

from recis_core.io import columns
from recis_core.io.kinds import kind_of
from recis_core.io.leaves import decoded
from recis_core.io.roles import Values
from recis_core.io.rows import RowError

LISTS = [[1, 2], [], None, [-(2**63), 2**63 - 1, 3]]


def prepared(array):
    """As a reader does with the columns of a file."""
    array = decoded(array)
    return Values().prepare(array, Values().target(kind_of(array.type), [array.type]))


def ragged_column(array, dtype):
    return columns.ragged_column(prepared(array), dtype)


def fixed_column(array, default, dtype):
    return columns.fixed_column(prepared(array), default, dtype)


def rows(ragged):
    offsets = ragged.offsets()[0].tolist()
    return [ragged.values()[a:b].tolist() for a, b in itertools.pairwise(offsets)]


@pytest.mark.parametrize("kind", [pa.list_(pa.int64()), pa.large_list(pa.int64())])
def test_lists_of_ids(kind):
    ragged = ragged_column(pa.array(LISTS, kind), torch.float32)
    assert rows(ragged) == [[1, 2], [], [], LISTS[3]]
    assert ragged.values().dtype == torch.int64


def test_slices_begin_at_zero():
    array = pa.array([[1], [2, 3], [4], [5, 6]], pa.list_(pa.int64())).slice(1, 2)
    assert rows(ragged_column(array, None)) == [[2, 3], [4]]
    assert rows(ragged_column(pa.array(LISTS, pa.list_(pa.int64())).slice(2, 2), None)) == [[], LISTS[3]]


def test_values_under_a_null_list_are_not_read():
    offsets, values = pa.array([0, 2, 4], pa.int32()), pa.array([1, 2, 3, 4])
    array = pa.ListArray.from_arrays(offsets, values, mask=pa.array([True, False]))
    assert rows(ragged_column(array, None)) == [[], [3, 4]]


def test_memory_is_shared():
    array = pa.array([[1, 2], [3]], pa.list_(pa.int64()))
    ragged = ragged_column(array, None)
    assert ragged.values().data_ptr() == array.values.buffers()[1].address


@pytest.mark.parametrize(
    ("kind", "dtype", "wanted"),
    [
        (pa.float64(), torch.float32, torch.float32),
        (pa.float64(), None, torch.float64),
        (pa.float32(), None, torch.float32),
        (pa.int8(), torch.float32, torch.int64),
        (pa.uint8(), None, torch.int64),
        (pa.uint32(), None, torch.int64),
        (pa.bool_(), torch.float32, torch.int64),
    ],
)
def test_dtypes(kind, dtype, wanted):
    values = pa.array([1, 0], kind if kind != pa.bool_() else pa.int8()).cast(kind)
    ragged = ragged_column(values, dtype)
    assert (ragged.dtype, rows(ragged)) == (wanted, [[1], [0]])
    assert ragged_column(values.slice(0, 0), dtype).dtype == wanted


def test_unsigned_64_bits_keep_their_bits():
    ragged = ragged_column(pa.array([2**64 - 1], pa.uint64()), None)
    assert ragged.values().tolist() == [-1]


def test_null_scalars_are_empty_rows():
    assert rows(ragged_column(pa.array([7, None, 8]), None)) == [[7], [], [8]]


def test_no_rows():
    for kind in (pa.list_(pa.int64()), pa.int64(), pa.string(), pa.list_(pa.string())):
        assert len(ragged_column(pa.array([], kind), None)) == 0


def test_nulls_inside_lists_are_left_out():
    array = pa.array([[1, None], None, [None], [2, None, 3]], pa.list_(pa.int64()))
    assert rows(ragged_column(array, None)) == [[1], [], [], [2, 3]]
    assert rows(ragged_column(array.slice(2), None)) == [[], [2, 3]]
    text = ragged_column(pa.array([["ab", None], [None, "c"]]), None)
    assert [level.tolist() for level in text.offsets()] == [[0, 1, 2], [0, 2, 3]]


def test_nulls_inside_fixed_lists_are_their_place_of_the_default():
    array = pa.array([[1.0, None], None, [None, 4.0], []])
    assert fixed_column(array, [7.0, 8.0], None).tolist() == [[1, 8], [7, 8], [7, 4], [7, 8]]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary()])
def test_text_becomes_bytes(kind):
    ragged = ragged_column(pa.array(["x", "ab", None, "", "é"]).cast(kind).slice(1), None)
    assert bytes(ragged.values().tolist()).decode() == "abé"
    assert [level.tolist() for level in ragged.offsets()] == [[0, 1, 1, 2, 3], [0, 2, 2, 4]]


def test_lists_of_text_and_lists_of_lists():
    text = ragged_column(pa.array([["ab", "c"], None]), None)
    assert [level.tolist() for level in text.offsets()] == [[0, 2, 2], [0, 2, 3]]
    deep = ragged_column(pa.array([[[1], [2, 3]], [], [[4]]]), None)
    assert [level.tolist() for level in deep.offsets()] == [[0, 2, 2, 3], [0, 1, 3, 4]]


def test_fixed_length():
    array = pa.array([[1.0], [], None, [4.0]])
    assert fixed_column(array, [0.5], torch.float32).tolist() == [[1], [0.5], [0.5], [4]]
    assert fixed_column(array, 0.5, torch.float32).tolist() == [1, 0.5, 0.5, 4]
    assert fixed_column(pa.array([3, None]), [9], torch.float32).dtype == torch.int64
    assert fixed_column(pa.array([[1, 2], []], pa.list_(pa.int64())), np.array([7, 8]), None).tolist() == [
        [1, 2],
        [7, 8],
    ]


def test_fixed_length_of_another_length_is_refused():
    with pytest.raises(RowError, match="must hold 1 values, or none; got 2") as error:
        fixed_column(pa.array([[1.0], [1.0, 2.0]]), [0.0], None)
    assert error.value.row == 1
