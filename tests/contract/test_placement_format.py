"""The placement format: golden words, even slices and buckets, and the load a table bears.

Sizes: N ids, S buckets, W ways.
"""

import numpy as np
import pytest

from recis_core.backends import Clock, LookupMode, TableSpec, placement
from tests.reference.table import ReferenceTable

SALTS = (placement.SLICE_SALT, placement.A_SALT, placement.B_SALT)
MASK = 0xFFFFFFFF
IDS = np.array([0, 1, -1, 2**32, np.iinfo(np.int64).min, np.iinfo(np.int64).max, 123_456_789_012_345], np.int64)
GOLDEN = {  # uid: slice, a and b words of IDS
    0: (
        [1129584368, 3424891686, 2767473589, 3381405036, 1415755030, 434757382, 3090467457],
        [1680814304, 3584742034, 448478264, 4162723709, 1600409474, 3117534387, 2813032672],
        [1238780610, 3694705582, 808517841, 2816393292, 3133000805, 1536891314, 903957971],
    ),
    0xDEADBEEF: (
        [2461395716, 1228434908, 2524385784, 3107214881, 3024437451, 1380055931, 676014147],
        [3168357377, 603081038, 2541311113, 1090400384, 1074363941, 238261325, 1799454700],
        [3276329160, 3405017718, 1902617096, 2119001171, 246983629, 2121472560, 1708570494],
    ),
}


def test_constants_of_version_1() -> None:
    """A checkpoint's placement holds only under these."""
    assert (placement.VERSION, placement.WAYS, placement.ROUNDS, placement.CHUNK) == (1, 16, 8, 32_768)
    assert (placement.STASH, placement.MAX_LOAD, placement.SUM_CHUNK, placement.SLICE_BITS) == (1_024, (3, 4), 256, 16)


def test_halves() -> None:
    hi, lo = placement.split_ids(IDS)
    assert hi.tolist() == [0, 0, 2**32 - 1, 1, 2**31, 2**31 - 1, 28744]
    assert lo.tolist() == [0, 1, 2**32 - 1, 0, 0, 2**32 - 1, 2249056121]


@pytest.mark.parametrize("uid", GOLDEN)
def test_golden_words(uid: int) -> None:
    assert tuple(w.tolist() for w in placement.hash_words(IDS, np.uint32(uid))) == GOLDEN[uid]


def _mix(h: int) -> int:
    h = (h ^ h >> 16) * placement.MIX_1 & MASK
    h = (h ^ h >> 13) * placement.MIX_2 & MASK
    return h ^ h >> 16


def _word(key: int, uid: int, salt: int) -> int:
    h = _mix((key & MASK) ^ salt)
    h = _mix(h + (key >> 32 & MASK) & MASK)
    return _mix(h + uid * placement.TABLE_MULTIPLIER & MASK)


def test_words_by_python_integers() -> None:
    ids = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, 200)
    uids = np.random.default_rng(1).integers(0, 2**32, 200).astype(np.uint32)
    for salt, words in zip(SALTS, placement.hash_words(ids, uids), strict=True):
        assert words.tolist() == [_word(i, u, salt) for i, u in zip(ids.tolist(), uids.tolist(), strict=True)]


def test_slices_are_low_bits() -> None:
    assert placement.slices(IDS, np.uint32(0)).tolist() == [w & 0xFFFF for w in GOLDEN[0][0]]


@pytest.mark.parametrize("ids", [np.arange(65_536), np.arange(65_536) * 2**32, -np.arange(65_536) * 4096])
def test_words_of_regular_ids_are_even(ids: np.ndarray) -> None:
    """Chi-square of 256 cells, 255 degrees of freedom: 255 ± 5·√510 for each word's low and high byte."""
    for word in placement.hash_words(ids, np.uint32(7)):
        for byte in (word & 255, word >> 24):
            counts = np.bincount(byte, minlength=256)
            assert abs(((counts - 256) ** 2 / 256).sum() - 255) < 5 * 510**0.5


@pytest.mark.parametrize("world", [1, 2, 8, 64])
def test_a_rank_uses_all_of_its_buckets(world: int) -> None:
    """Slices and buckets share no bits: one rank's keys fill as many buckets as random ones would."""
    N = S = 2048
    ids = np.arange(2 * N * world)
    slices, a, b = placement.hash_words(ids, np.uint32(3))
    mine = (slices & 0xFFFF) < 2**16 // world
    assert mine.sum() >= N
    for word in (a, b):
        used = len(np.unique(word[mine][:N] & np.uint32(S - 1))) / S
        assert abs(used - (1 - (1 - 1 / S) ** N)) < 0.04


def test_tables_do_not_share_buckets() -> None:
    """The same ids under two uids meet in a bucket as seldom as by chance."""
    ids = np.arange(20_000)
    for one, other in zip(
        placement.hash_words(ids, np.uint32(1)), placement.hash_words(ids, np.uint32(2)), strict=True
    ):
        assert abs(((one ^ other) & 63 == 0).mean() - 1 / 64) < 0.005


def test_first_unplaced_id_comes_late() -> None:
    """Load at the first stashed id, in batches of 1,000: .875 measured; growth starts at .75."""
    table = ReferenceTable(TableSpec(1, (0,), max_rows=100_000))
    table.buckets = 2048
    capacity, batch = 2048 * placement.WAYS, 0
    while not table.stash:
        ids = (np.arange(1000) + 1000 * batch) * 7919
        table.lookup(ids, np.zeros(1000, np.int32), LookupMode(), Clock())
        batch += 1
    assert (batch - 1) * 1000 / capacity >= 0.85


@pytest.mark.parametrize(
    ("rows", "buckets"),
    [(1, 1), (12, 1), (13, 2), (24, 2), (25, 4), (10_240, 1024), (786_432, 65_536), (786_433, 131_072)],
)
def test_initial_buckets(rows: int, buckets: int) -> None:
    assert placement.initial_buckets(rows) == buckets
    assert placement.row_capacity(buckets) >= rows


@pytest.mark.parametrize(
    ("used", "incoming", "buckets"), [(0, 0, 8), (96, 0, 8), (95, 1, 8), (96, 1, 16), (0, 193, 32), (50, 10_000, 1024)]
)
def test_grown_buckets(used: int, incoming: int, buckets: int) -> None:
    """8 buckets hold 96 keys at load .75."""
    assert placement.grown_buckets(8, used, incoming) == buckets
