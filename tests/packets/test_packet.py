"""Packets: what goes in comes out, and what cannot go in says so."""

import msgpack
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recis_core.backends import get
from recis_core.backends.errors import PacketError, RecisError
from recis_core.backends.spec import RowCodec
from recis_core.exchange import decode, encode
from recis_core.packets.packet import encode_commit
from recis_core.packets.packet_bytes import read_header
from recis_core.packets.packet_codec import ROW_CODECS
from recis_core.packets.packet_frame import HEADER_LIMIT, PREAMBLE_BYTES, aligned, section_hash, write_preamble
from tests.packets.samples import IDS, STREAM, arguments, packets, rows


def bits(values):
    return values.contiguous().reshape(-1).view(torch.int32 if values.dtype == torch.float32 else values.dtype)


def same(got, expected):
    return got.shape == expected.shape and got.dtype == expected.dtype and torch.equal(bits(got), bits(expected))


@pytest.mark.parametrize("id_codec", ["raw", "packed"])
def test_fp32_comes_back_bit_for_bit(id_codec):
    packet = decode(encode(**arguments("fp32", id_codec)))
    assert packet.table == "user·item"
    assert same(packet.ids, IDS)
    assert same(packet.rows, rows())
    assert packet.erased.tolist() == [12, -12]
    assert same(packet.slots["exp_avg"], rows())
    assert packet.slots["step"].tolist() == [[i] for i in range(6)]
    header = packet.header
    assert (header.stream, header.base, header.version, header.sequence) == (STREAM, 41, 2**40, 3)
    assert (header.kind, header.dim, header.count) == ("rows", 7, 6)


@pytest.mark.parametrize("codec", ROW_CODECS)
def test_rows_are_what_the_codec_makes_and_non_finite_ones_are_exact(codec):
    packet = decode(encode(**arguments(codec)))
    encoded = get("torch").encode(rows(), codec=RowCodec(codec))
    expected = get("torch").decode(encoded.codes, codec=RowCodec(codec), dim=7, tail=encoded.tail)
    expected[3] = rows()[3]
    assert same(packet.rows, expected)
    assert same(packet.ids, IDS)


@given(
    dim=st.integers(1, 9),
    ids=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=200),
    codec=st.sampled_from(list(ROW_CODECS)),
    id_codec=st.sampled_from(["raw", "packed"]),
    seed=st.integers(0, 2**32 - 1),
    erased=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5),
    table=st.text(st.characters(codec="utf-8"), min_size=1, max_size=40),
)
@settings(max_examples=150, deadline=None)
def test_round_trip(dim, ids, codec, id_codec, seed, erased, table):
    random = np.random.default_rng(seed)
    raw = random.integers(0, 2**32, (len(ids), dim), dtype=np.uint32).view(np.float32)  # NaN payloads, inf and all
    sent = np.where(random.random((len(ids), 1)) < 0.2, raw, random.standard_normal((len(ids), dim))).astype(np.float32)
    ids, erased = np.array(ids, np.int64), np.array(erased, np.int64)
    data = encode(table=table, ids=ids, rows=sent, codec=codec, id_codec=id_codec, erased=erased)
    packet = decode(data)
    assert packet.table == table
    assert np.array_equal(packet.ids.numpy(), ids)
    assert np.array_equal(packet.erased.numpy(), erased)
    exact = ~np.isfinite(sent).all(1) | (codec == "fp32")
    assert np.array_equal(packet.rows.numpy()[exact].view(np.uint32), sent[exact].view(np.uint32))
    again = encode(table=table, ids=packet.ids, rows=packet.rows, codec="fp32", erased=packet.erased)
    assert same(decode(again).rows, packet.rows)


def test_packed_ids_and_codecs_are_smaller():
    ids, values = torch.arange(1000) * 3, torch.randn(1000, 64)
    size = {c: len(encode(table="t", ids=ids, rows=values, codec=c, id_codec="packed")) for c in ROW_CODECS}
    assert size["fp32"] > size["lossless"] > size["int8"] > size["int4"] > size["sign"]
    assert size["fp32"] < len(encode(table="t", ids=ids, rows=values)) - 7000


def test_bytes_do_not_depend_on_how_rows_were_held():
    expected = encode(table="t", ids=IDS, rows=rows(), codec="int8")
    strided = torch.stack([rows(), rows()], 2)[:, :, 0]
    assert encode(table="t", ids=IDS.numpy(), rows=rows().numpy(), codec="int8") == expected
    assert encode(table="t", ids=IDS, rows=strided.requires_grad_(), codec="int8") == expected
    assert encode(table="t", ids=IDS.flip(0).numpy()[::-1], rows=rows(), codec="int8") == expected


def test_sections_begin_at_multiples_of_64_and_nothing_is_out_of_place():
    for data in packets().values():
        header = read_header(data)
        assert len(data) % 64 == 0
        assert all(section.offset % 64 == 0 for section in header.sections)
        for view in (bytearray(data), memoryview(data)):
            assert decode(view).header == header


def test_a_decoded_packet_is_no_view_of_the_bytes():
    data = bytearray(encode(table="t", ids=IDS, rows=rows()))
    packet = decode(data)
    data[:] = bytes(len(data))
    assert same(packet.ids, IDS)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"table": 3}, TypeError, "table must be a str; got int"),
        ({"table": ""}, ValueError, "table must have 1 to 1024 bytes; got 0"),
        ({"table": "x" * 1025}, ValueError, "got 1025"),
        ({"table": "\ud800"}, ValueError, "valid UTF-8"),
        ({"ids": [1, 2]}, TypeError, "ids must be a torch tensor or numpy array; got list"),
        ({"ids": IDS.int()}, TypeError, r"ids must be int64; got torch\.int32"),
        ({"ids": IDS[:, None]}, ValueError, r"ids must be \[n\]; got \[6, 1\]"),
        ({"ids": IDS[:5]}, ValueError, r"ids must be \[n\] and rows \[n, D\]; got \[5\] and \[6, 7\]"),
        ({"rows": rows().double()}, TypeError, r"rows must be float32; got torch\.float64"),
        ({"rows": rows()[:, :0]}, ValueError, "1 to 1048576 columns; got 0"),
        ({"rows": rows()[:, 0]}, ValueError, "rows"),
        ({"codec": "fp31"}, ValueError, "codec must be one of fp32, bf16"),
        ({"id_codec": "zip"}, ValueError, "codec must be one of raw, packed; got 'zip'"),
        ({"erased": torch.ones(2)}, TypeError, "erased must be int64"),
        ({"slots": {"m": rows()[:2]}}, ValueError, r"slot 'm' must be \[6, width\]; got \[2, 7\]"),
        ({"slots": {"x" * 1024: rows()}}, ValueError, "a slot's name must have 1 to 1024 bytes"),
        ({"slots": {str(i): rows() for i in range(63)}}, ValueError, "at most 64 sections"),
        ({"slots": {f"{i}" + "x" * 1000: rows() for i in range(59)}}, None, None),
        ({"stream": "x"}, TypeError, "stream must be bytes"),
        ({"stream": b"x"}, ValueError, "stream must be 16 bytes"),
        ({"version": 1.0}, TypeError, "version must be an int"),
        ({"version": True}, TypeError, "version must be an int"),
        ({"version": -1}, ValueError, "version must be from 0"),
        ({"version": 2**63}, ValueError, "version must be from 0"),
        ({"version": 41}, ValueError, "version must be past base; got version 41, base 41"),
    ],
)
def test_encode_says_what_it_cannot_take(changes, error, message):
    if error is None:  # long names, and still within the header's bound
        assert len(decode(encode(**arguments("fp32") | changes)).slots) == 59
        return
    with pytest.raises(error, match=message):
        encode(**arguments("fp32") | changes)


def test_decode_wants_bytes():
    with pytest.raises(TypeError, match="must be bytes; got str"):
        decode("RECISPKT")


def test_what_would_take_too_much_memory_is_refused():
    data = encode(table="t", ids=torch.zeros(1000, dtype=torch.int64), rows=torch.zeros(1000, 64), codec="sign")
    assert len(decode(data, max_bytes=1000 * (8 + 256)).rows) == 1000
    with pytest.raises(PacketError, match="would take 264000 bytes decoded; max_bytes is 263999"):
        decode(data, max_bytes=263999)


def test_packet_errors_are_our_errors():
    assert issubclass(PacketError, RecisError)


def forged(data, **changes):
    """The packet with other header fields, and hashes that match again."""
    end = aligned(PREAMBLE_BYTES + len(msgpack.packb(msgpack.unpackb(header_of(data)))))
    header = msgpack.packb(msgpack.unpackb(header_of(data)) | changes)
    body = data[end:]
    start = aligned(PREAMBLE_BYTES + len(header))
    return (write_preamble(header, start + len(body)) + header).ljust(start, b"\0") + body


def header_of(data):
    return data[PREAMBLE_BYTES : PREAMBLE_BYTES + int.from_bytes(data[12:16], "little")]


SHORT = {"table": "t", "ids": IDS, "rows": rows()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "row"}, "kind must be one of rows, commit; got 'row'"),
        ({"kind": "commit"}, "a commit names no table"),
        ({"table": ""}, "needs a table and dim"),
        ({"dim": 8}, r"section 'rows\.fp32' must be uint8 \[6, 32\]"),
        ({"dim": 1 << 21}, "dim must be an integer from 0 to 1048576"),
        ({"count": 5}, "must be uint8"),
        ({"count": 1 << 40}, "bytes decoded"),
        ({"count": True}, "count must be an integer"),
        ({"codec": 1}, r"section 'rows\.bf16' is missing"),
        ({"codec": 99}, "codec number 99 is unknown"),
        ({"id_codec": 1}, r"section 'ids\.packed' is missing"),
        ({"stream": b"short"}, "stream must be 16 bytes or none"),
        ({"base": 3}, "version must be past base"),
        ({"sections": []}, "sections must follow one another"),
        ({"sections": 3}, "sections must be a list"),
        ({"sections": [["a", "uint8", [1], 0, 2, 3]]}, "cannot have 2 bytes"),
        ({"sections": [["a", "object", [1], 0, 1, 3]]}, "dtype must be one of"),
        ({"sections": [["a", "uint8", [1, 1, 1], 0, 1, 3]]}, "at most 2 dimensions"),
        ({"sections": [["a", "uint8", [1]]]}, "a section has name, dtype"),
        ({"sections": [["a", "uint8", [1 << 40], 256, 1 << 40, 3]]}, "sections must follow one another"),
        ({"more": 1}, r"exceeds max_map_len\(11\)"),
    ],
)
def test_headers_that_hash_right_and_say_wrong_are_refused(changes, message):
    data = encode(**SHORT)
    assert forged(data) == data
    with pytest.raises(PacketError, match=message):
        decode(forged(data, **changes))


def test_a_header_has_one_form():
    data = encode(**SHORT)
    fields = msgpack.unpackb(header_of(data))
    reordered = {name: fields[name] for name in reversed(fields)}
    loose = {**fields, "dim": 7.0}
    for header in (msgpack.packb(reordered), msgpack.packb(loose), msgpack.packb(fields) + b"\0"):
        start = aligned(PREAMBLE_BYTES + len(header))
        body = data[aligned(PREAMBLE_BYTES + len(header_of(data))) :]
        whole = (write_preamble(header, start + len(body)) + header).ljust(start, b"\0") + body
        with pytest.raises(PacketError):
            decode(whole)


def test_exact_rows_must_be_ones():
    """A packet whose codes and exact rows contradict each other says two things, so it says nothing."""
    values = rows()
    data = bytearray(encode(table="t", ids=IDS, rows=values))
    header = read_header(data)
    sections = {section.name: section for section in header.sections}
    cases = {
        "rows.exact": torch.tensor([6]).numpy().tobytes(),  # past the end
        "rows.exact_values": torch.ones(1, 7).numpy().tobytes(),  # finite
    }
    for name, content in cases.items():
        section = sections[name]
        changed = bytearray(data)
        changed[section.offset : section.offset + section.length] = content
        listed = [
            [s.name, s.dtype, list(s.shape), s.offset, s.length, section_hash(content) if s.name == name else s.xxh3]
            for s in header.sections
        ]
        with pytest.raises(PacketError, match="exact rows must"):
            decode(forged(bytes(changed), sections=listed))


def test_commits_carry_their_place_alone():
    packet = decode(encode_commit(stream=STREAM, base=1, version=2, sequence=3))
    assert packet.is_commit
    assert (len(packet.ids), len(packet.rows), packet.table) == (0, 0, "")


def test_the_header_is_bounded():
    data = encode(**SHORT)
    with pytest.raises(PacketError, match=f"may have {HEADER_LIMIT}"):
        decode(write_preamble(bytes(HEADER_LIMIT + 1), len(data)) + data[PREAMBLE_BYTES:])
