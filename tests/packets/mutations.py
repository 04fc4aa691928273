"""Valid packets made wrong: damaged blindly, or by one who knows the format and computes the hashes anew."""

import struct
from copy import deepcopy
from dataclasses import dataclass

import msgpack

from recis_core.packets.packet_frame import PREAMBLE_BYTES, aligned, section_hash, write_preamble

NUMBERS = (0, 1, 2, 5, 6, 7, 8, 127, 128, 255, 256, 2**16, 2**31, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1, -1)
THINGS = (None, True, 1.5, "", "x", "rows.fp32", "ids.raw", "erased", b"", b"0123456789abcdef", [], {}, [[]], {"a": 1})
FIELDS = ("kind", "table", "dim", "count", "codec", "id_codec", "stream", "base", "version", "sequence", "sections")
LABELS = {"table", "stream", "base", "version", "sequence"}  # what may be another without the content being so
BOMBS = (
    b"\x91" * 60_000 + b"\xc0",
    b"\xdd\xff\xff\xff\xff" + b"\x90" * 60_000,
    b"\xdc\xff\xff" + b"\x90" * 60_000,
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x01",
    (b"\xdc\x00\x40" + b"\xdc\x00\x40" * 64) * 300,
    b"\x81" * 30_000,
    b"",
)


@dataclass
class Mutation:
    """forged: hashes were made to match, so that what decodes may be other data, truly read."""

    data: bytes
    forged: bool
    changed: frozenset = frozenset()


def mutate(random, packets):
    """One mutation of one of the packets."""
    data = random.choice(packets)
    if random.random() < 0.45:
        return Mutation(random.choice((flip, cut, overwrite, insert, remove, splice))(random, data, packets), False)
    return random.choice((bomb, long, *[header] * 6, *[content] * 3))(random, data)


def flip(random, data, packets):
    at = random.randrange(8 * len(data))
    return data[: at // 8] + bytes([data[at // 8] ^ 1 << at % 8]) + data[at // 8 + 1 :]


def cut(random, data, packets):
    return data[: random.randrange(len(data))]


def overwrite(random, data, packets):
    at, count = random.randrange(len(data)), random.randrange(1, 64)
    return (data[:at] + random.randbytes(count) + data[at + count :])[: len(data)]


def insert(random, data, packets):
    at = random.randrange(len(data) + 1)
    return data[:at] + random.randbytes(random.choice((1, 7, 64))) + data[at:]


def remove(random, data, packets):
    at = random.randrange(len(data))
    return data[:at] + data[at + random.choice((1, 8, 64)) :]


def splice(random, data, packets):
    other = random.choice(packets)
    at = random.choice((64, random.randrange(len(data))))
    return data[:at] + other[at:]


def bomb(random, data):
    raw = random.choice(BOMBS)[: random.choice((2**16, 2**16, 300))]
    return Mutation(with_header(raw, data[-128:]), True, frozenset(FIELDS))


def long(random, data):
    """A preamble that hashes right and announces more, or less, than there is."""
    first = data[:12] + struct.pack("<I", random.choice((0, 1, 2**16, 2**32 - 1, len(data))))
    first += struct.pack("<Q", random.choice((0, 64, len(data), len(data) - 64, 2**40, 2**63, 2**64 - 1))) + data[24:32]
    first += struct.pack("<Q", section_hash(first))
    return Mutation(first.ljust(64, b"\0") + data[64:], False)


def header(random, data):
    """Fields changed, hashes right."""
    fields, body, changed = unpacked(data), body_of(data), set()
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        changed.add(change(random, fields))
    return Mutation(with_header(msgpack.packb(fields), body), True, frozenset(changed))


def change(random, fields):
    name = random.choice([*FIELDS, *["sections"] * 8])
    sections = fields.get("sections")
    if name == "sections" and isinstance(sections, list) and sections and random.random() < 0.95:
        change_section(random, sections)
    elif random.random() < 0.05:
        fields.pop(name, None)
    else:
        fields[name] = deepcopy(random.choice((*NUMBERS, *THINGS)))
    return name


def change_section(random, sections):
    """One made longer, larger, elsewhere, or laid over another."""
    section, other = random.choice(sections), random.choice(sections)
    if not isinstance(section, list) or len(section) < 6 or not isinstance(other, list) or len(other) < 6:
        return
    kind = random.randrange(6)
    if kind == 0:
        section[3] = other[3]
    elif kind == 1:
        section[4] = random.choice((section[4], *NUMBERS))
    elif kind == 2:
        section[1], section[2] = other[1], other[2]
    elif kind == 3:
        section[random.randrange(6)] = deepcopy(random.choice((*NUMBERS, *THINGS)))
    elif kind == 4:
        sections.append(list(section))
    else:
        section[0], other[0] = other[0], section[0]


def content(random, data):
    """A section's bytes changed, hashes right: a packet made by an enemy, or by a faulty sender."""
    fields = unpacked(data)
    if not fields["sections"]:
        return header(random, data)
    section = random.choice(fields["sections"])
    name, _, _, offset, length, _ = section
    if not length:
        return header(random, data)
    at = offset + random.randrange(length)
    body = bytearray(data)
    body[at : min(at + 8, offset + length)] = random.randbytes(min(8, offset + length - at))
    section[5] = section_hash(bytes(body[offset : offset + length]))
    return Mutation(with_header(msgpack.packb(fields), body_of(bytes(body))), True, frozenset([name]))


def header_length(data):
    return struct.unpack_from("<I", data, 12)[0]


def unpacked(data):
    return msgpack.unpackb(data[PREAMBLE_BYTES : PREAMBLE_BYTES + header_length(data)])


def body_of(data):
    return data[aligned(PREAMBLE_BYTES + header_length(data)) :]


def with_header(raw, body):
    start = aligned(PREAMBLE_BYTES + len(raw))
    return (write_preamble(raw, start + len(body)) + raw).ljust(start, b"\0") + body
