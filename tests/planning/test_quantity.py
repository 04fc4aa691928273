"""Numbers as people write them."""

import pytest

from recis_core.planning.quantity import parse_bytes, parse_count
from recis_core.planning.units import in_bytes, in_counts, in_seconds


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (40, 40), (1e9, 10**9), ("40M", 40 * 10**6), ("1e9", 10**9), ("10^9", 10**9), ("10^9 rows", 10**9),
        ("1e9 rows", 10**9), ("62.5M", 62_500_000), ("3B", 3 * 10**9), ("1T", 10**12), ("40_000_000", 40 * 10**6),
        ("40,000,000", 40 * 10**6), ("10^12", 10**12), ("999999999999999", 10**15 - 1), (0, 0), ("5k", 5000),
    ],
)  # fmt: skip
def test_counts(text, value):
    assert parse_count(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("80GB", 80 * 10**9), ("40GiB", 40 * 2**30), ("1.5 TB", 15 * 10**11), (512, 512), ("512B", 512),
        ("80G", 80 * 10**9), ("4kib", 4096), ("2MiB", 2**21), ("1PB", 10**15),
    ],
)  # fmt: skip
def test_sizes(text, value):
    assert parse_bytes(text) == value


@pytest.mark.parametrize("text", ["", "many", "-3", -3, 1.5, "1.5", "4 GB", True, None, "1e999M ", float("nan"), [1]])
def test_no_counts(text):
    with pytest.raises(ValueError, match="wanted a count such as 40000000, 40M"):
        parse_count(text)


@pytest.mark.parametrize("text", ["80 gigs", "GB", "0.3B", "1e9 rows", float("inf")])
def test_no_sizes(text):
    with pytest.raises(ValueError, match="wanted a size such as 80GB"):
        parse_bytes(text)


def test_as_people_read_them():
    assert [in_bytes(x) for x in (0, 672, 2_660_000, 80e9, 999.7e9, 5e18)] == [
        "0 B", "672 B", "2.66 MB", "80 GB", "1 TB", "5000 PB",
    ]  # fmt: skip
    assert [in_counts(x) for x in (3, 39_060, 26.1e9, 1e12)] == ["3", "39.1k", "26.1B", "1T"]
    assert [in_seconds(x) for x in (4.9e-4, 2.5e-3, 3)] == ["490 µs", "2.5 ms", "3 s"]
