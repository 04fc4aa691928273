"""What an enemy, or a faulty writer, may send: named streams, each of which a reader must refuse or leave its tables by.

A case takes the place where it claims to be, and gives frames; FULL size is what was found to hurt, others are smaller.
"""

import random
from dataclasses import dataclass

import msgpack
import numpy as np
import torch

from recis_core.backends import placement
from recis_core.exchange import encode
from recis_core.packets.packet import encode_commit
from recis_core.packets.packet_bytes import assemble
from recis_core.packets.packet_frame import write_preamble
from recis_core.packets.packet_header import PacketHeader
from recis_core.table.uid import uid
from tests.packets.mutations import BOMBS, body_of, unpacked, with_header

SERVED = {"user": (8, 1000), "item": (4, 500)}  # dim, rows
CASES = {}


@dataclass(frozen=True)
class Place:
    stream: bytes
    base: int
    version: int
    small: bool  # of a reduced run


def case(make):
    CASES[make.__name__] = make
    return make


def rows(place, sequence, table="user", n=1, dim=None, first=0, **more):
    dim = SERVED[table][0] if dim is None else dim
    ids = more.pop("ids", torch.arange(first, first + n))
    if len(ids) > 1:  # of one and none, encoding would take the test's time
        more = {"codec": "sign", "id_codec": "packed", **more}
    values = more.pop("rows", None)
    values = torch.ones(len(ids), dim) if values is None else values
    return encode(
        table=table, ids=ids, rows=values, sequence=sequence,
        stream=place.stream, base=place.base, version=place.version, **more,
    )  # fmt: skip


def end(place, sequence, **changes):
    fields = {"stream": place.stream, "base": place.base, "version": place.version} | changes
    return encode_commit(sequence=sequence, **fields)


def many(place, count, make):
    """So many packets, and their commit."""
    for sequence in range(count):
        yield make(sequence)
    yield end(place, count)


def sized(place, full):
    return max(1, full // 32) if place.small else full


@case
def a_wide_table_without_rows(place):
    yield from many(place, 1, lambda s: rows(place, s, n=0, dim=1 << 20))


@case
def a_wide_table_of_another_name(place):
    yield encode(table="t", ids=torch.zeros(0, dtype=torch.int64), rows=torch.zeros(0, 1 << 20), **_where(place))
    yield end(place, 1)


def _where(place, sequence=0):
    return {"stream": place.stream, "base": place.base, "version": place.version, "sequence": sequence}


@case
def a_table_past_the_columns(place):
    yield from many(place, 4, lambda s: rows(place, s, n=4, dim=(1 << 16) + 1, first=4 * s))


@case
def three_thousand_tables(place):
    one, none = torch.zeros(1, dtype=torch.int64), torch.ones(1, 4)
    yield from many(
        place,
        sized(place, 3000) if place.small else 3000,
        lambda s: encode(table=f"t{s}", ids=one, rows=none, **_where(place, s)),
    )


@case
def tables_with_long_names(place):
    one, none = torch.zeros(1, dtype=torch.int64), torch.ones(1, 4)
    yield from many(place, 1500, lambda s: encode(table=f"{s:01024}", ids=one, rows=none, **_where(place, s)))


def flawed(place, count, make):
    """As many, and only the last packet is one to refuse: what comes before it is held."""
    for sequence in range(count - 1):
        yield make(sequence)
    yield rows(place, count - 1, dim=3)
    yield end(place, count)


@case
def empty_packets(place):
    """15 MB of them."""
    yield from flawed(place, sized(place, 48_000), lambda s: rows(place, s, n=0))


@case
def more_packets_than_a_version_has(place):
    yield from flawed(place, sized(place, 70_000), lambda s: rows(place, s, n=0))


@case
def empty_packets_that_never_end(place):
    for sequence in range(sized(place, 48_000)):
        yield rows(place, sequence, n=0)


@case
def packets_of_one_row(place):
    yield from flawed(place, sized(place, 30_000), lambda s: rows(place, s, first=s))


def flood(place, table, dim, n, codec, bytes_):
    """Rows under ever new ids, as many bytes as were found to hurt."""
    first = rows(place, 0, table, n, dim, codec=codec)
    count = 1 + sized(place, bytes_ // len(first) + 1)
    yield from flawed(place, count, lambda s: rows(place, s, table, n, dim, first=n * s, codec=codec))


@case
def rows_of_one_bit(place):
    yield from flood(place, "user", 8, 1 << 18, "sign", 24 << 20)


@case
def wide_rows_of_one_bit(place):
    yield from flood(place, "user", 1 << 16, 64, "sign", 24 << 20)


@case
def rows_of_four_bits(place):
    yield from flood(place, "item", 4, 1 << 18, "int4", 24 << 20)


@case
def rows_of_one_column(place):
    yield from flood(place, "item", 1, 1 << 19, "sign", 24 << 20)


@case
def rows_of_one_bit_that_never_end(place):
    yield from list(flood(place, "user", 8, 1 << 18, "sign", 24 << 20))[:-1]


@case
def a_packet_that_is_large_decoded(place):
    yield rows(place, 0, n=1 << 16 if place.small else 1 << 19, dim=1024 if place.small else 512)
    yield end(place, 1)


@case
def slots_without_end(place):
    slots = {f"s{i}": torch.zeros(1 << 12, 32) for i in range(8)}
    yield from flawed(place, sized(place, 8) + 1, lambda s: rows(place, s, n=1 << 12, first=s << 12, slots=slots))


@case
def erased_ids_without_end(place):
    """Of ids that nobody has."""
    ids = torch.arange(1 << 20) + (1 << 40)
    yield from flawed(place, sized(place, 3) + 1, lambda s: rows(place, s, n=0, erased=ids + (s << 20)))


@case
def a_packet_repeated_under_its_number(place):
    frames = [rows(place, 0, n=900), rows(place, 1, "item", 400), end(place, 2)]
    yield from (frames[0], frames[0], *frames[1:])


@case
def a_packet_repeated_under_the_next_number(place):
    yield from (rows(place, 0, n=900), rows(place, 1, n=900), rows(place, 2, "item", 400), end(place, 3))


@case
def the_last_packet_repeated(place):
    last = rows(place, 1, "item", 400)
    yield from (rows(place, 0, n=900), last, last, end(place, 2))


@case
def the_commit_repeated(place):
    yield from (rows(place, 0, "item", dim=7), end(place, 1), end(place, 1), end(place, 1))


@case
def ids_repeated_in_a_packet(place):
    yield from (rows(place, 0, ids=torch.tensor([4, 9, 4])), rows(place, 1, "item", 400), end(place, 2))


@case
def ids_repeated_across_packets(place):
    yield from (rows(place, 0, n=900), rows(place, 1, n=5, first=899), rows(place, 2, "item", 400), end(place, 3))


@case
def ids_written_and_erased(place):
    if not place.base:  # nothing is there to erase
        yield rows(place, 0, dim=9)
    yield from (rows(place, 0, n=5), rows(place, 1, n=0, erased=torch.tensor([3, 4])), end(place, 2))


@case
def packets_in_the_wrong_order(place):
    yield from (rows(place, 1, "item", 400), rows(place, 0, n=900), end(place, 2))


@case
def a_packet_left_out(place):
    yield from (rows(place, 0, n=900), rows(place, 2, "item", 400), end(place, 3))


@case
def a_commit_that_counts_too_few(place):
    yield from (rows(place, 0, n=900), rows(place, 1, "item", 400), end(place, 1))


@case
def a_commit_that_counts_too_many(place):
    yield from (rows(place, 0, n=900), rows(place, 1, "item", 400), end(place, 3))


@case
def a_commit_of_another_version(place):
    yield from (rows(place, 0, n=900), rows(place, 1, "item", 400), end(place, 2, version=place.version + 1))


@case
def a_commit_of_another_stream(place):
    yield from (rows(place, 0, n=900), rows(place, 1, "item", 400), end(place, 2, stream=bytes(16)))


@case
def a_commit_alone(place):
    yield end(place, 1)


@case
def no_tables_at_all(place):
    yield end(place, 0, base=0, stream=b"nobody's stream.")


@case
def the_tables_without_rows(place):
    nobody = Place(b"nobody's stream.", 0, 9, place.small)
    yield from (rows(nobody, 0, n=0), rows(nobody, 1, "item", 0), end(nobody, 2))


@case
def the_tables_with_few_rows(place):
    nobody = Place(b"nobody's stream.", 0, (1 << 63) - 1, place.small)
    yield from (rows(nobody, 0), rows(nobody, 1, "item"), end(nobody, 2))


@case
def a_table_missing(place):
    nobody = Place(b"nobody's stream.", 0, 1, place.small)
    yield from (rows(nobody, 0, n=2000), end(nobody, 1))


@case
def a_table_too_many(place):
    one = torch.zeros(1, dtype=torch.int64)
    yield from (rows(place, 0, n=900), rows(place, 1, "item", 400))
    yield from (encode(table="more", ids=one, rows=torch.ones(1, 4), **_where(place, 2)), end(place, 3))


@case
def other_columns(place):
    yield from (rows(place, 0, n=900, dim=7), rows(place, 1, "item", 400), end(place, 2))


@case
def columns_that_change_inside_a_version(place):
    yield from (
        rows(place, 0, n=900),
        rows(place, 1, n=9, dim=9, first=900),
        rows(place, 2, "item", 400),
        end(place, 3),
    )


@case
def changes_of_a_version_that_is_not_here(place):
    yield from (rows(later := Place(place.stream, 77, 78, place.small), 0, n=900), end(later, 1))


@case
def a_version_of_long_ago(place):
    old = Place(place.stream, 0, 1, place.small)
    yield from (rows(old, 0, n=900, dim=None), rows(old, 1, "item", 400, dim=6), end(old, 2))


@case
def packets_of_no_stream(place):
    yield encode(table="user", ids=torch.arange(3), rows=torch.ones(3, 8))


@case
def rows_that_contradict_themselves(place):
    """A lossless tail of another length: intact, hashes and all, and found only when rows are decoded."""
    arrays = {
        "ids.raw": torch.arange(2),
        "rows.lossless": torch.full((2, 1 + 8 + 3), 255, dtype=torch.uint8),
        "rows.tail": torch.zeros(3, dtype=torch.uint8),
    }
    place_ = _where(place)
    yield assemble(PacketHeader("rows", "user", 8, 2, 7, 0, **place_), arrays)
    yield from (rows(place, 1, "item", 400), end(place, 2))


@case
def exact_rows_that_are_not(place):
    arrays = {
        "ids.raw": torch.arange(2),
        "rows.fp32": torch.zeros(2, 32, dtype=torch.uint8),
        "rows.exact": torch.tensor([1, 0]),
        "rows.exact_values": torch.full((2, 8), float("nan")),
    }
    yield assemble(PacketHeader("rows", "user", 8, 2, 0, 0, **_where(place)), arrays)
    yield from (rows(place, 1, "item", 400), end(place, 2))


@case
def ids_that_collide(place):
    """More ids for some buckets than these can hold, of a table as large as they all need."""
    n = 1500
    buckets = placement.initial_buckets(n)
    ids = np.arange(1 << 17, dtype=np.int64)
    _, a, b = placement.hash_words(ids, np.uint32(uid("user")))
    crowded = ids[(a % buckets < buckets // 16) & (b % buckets < buckets // 16)][: n // 2]
    ids = np.concatenate([crowded, np.arange(1 << 20, (1 << 20) + n - len(crowded))])
    yield rows(place, 0, ids=torch.from_numpy(ids))
    yield from (rows(place, 1, "item", 400, dim=6), end(place, 2))


@case
def headers_that_are_bombs(place):
    for bomb in BOMBS:
        yield with_header(bomb[: 1 << 16], bytes(128))


@case
def a_header_that_lies(place):
    data = rows(place, 0, n=900)
    for changes in (
        {"count": 1 << 40},
        {"dim": 1 << 20},
        {"codec": 99},
        {"sections": []},
        {"version": 0},
        {"table": "\0"},
    ):
        yield with_header(msgpack.packb(unpacked(data) | changes), body_of(data))


@case
def a_frame_that_is_announced_and_never_comes(place):
    """With a preamble that hashes right."""
    yield write_preamble(b"", 1 << 27) + bytes(1 << 16)


@case
def half_a_frame(place):
    data = rows(place, 0, n=900)
    yield data[: len(data) // 2]


@case
def another_protocol(place):
    yield b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20


@case
def another_protocol_in_binary(place):
    yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 4


@case
def zeros(place):
    yield bytes(1 << 20)


@case
def random_bytes(place):
    yield random.Random(3).randbytes(sized(place, 8 << 20))
