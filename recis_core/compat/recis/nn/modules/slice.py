"""A rank's part of a table's ids, as numbers; ours are dealt by their hash, whatever is given here."""

from __future__ import annotations


class Slice:
    """Ids whose unsigned remainder by slice_size is in [slice_begin, slice_end)."""

    def __init__(self, slice_beg: int, slice_end: int, slice_size: int) -> None:
        self.slice_begin, self.slice_end, self.slice_size = slice_beg, slice_end, slice_size


def gen_slice(shard_index: int = 0, shard_num: int = 1, slice_size: int = 65536) -> Slice:
    """The slice of shard shard_index of shard_num: sizes differ by one at most, the first are the larger."""
    each, more = divmod(slice_size, shard_num)
    begin = shard_index * each + min(shard_index, more)
    return Slice(begin, begin + each + (shard_index < more), slice_size)


WHOLE = gen_slice()
