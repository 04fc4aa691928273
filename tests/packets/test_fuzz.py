"""Damaged, cut and forged packets: a PacketError every time, memory bounded, never wrong data."""

import json
import os
import random
import subprocess
import sys

import pytest
import torch

from recis_core.backends.errors import PacketError
from recis_core.exchange import decode, encode
from recis_core.packets.encoded_packet import open_packet
from tests.packets.fuzz import check_truly_read, identity, outcome
from tests.packets.mutations import Mutation, mutate
from tests.packets.samples import IDS, packets, rows

PACKETS = packets()


def test_a_thousand_flipped_bits():
    source = random.Random(1)
    for _ in range(1000):
        data = bytearray(source.choice(list(PACKETS.values())))
        at = source.randrange(8 * len(data))
        data[at // 8] ^= 1 << at % 8
        with pytest.raises(PacketError):
            decode(data)


def test_every_single_bit_of_a_packet_matters():
    data = bytearray(PACKETS["empty"])
    for at in range(8 * len(data)):
        data[at // 8] ^= 1 << at % 8
        with pytest.raises(PacketError):
            decode(data)
        data[at // 8] ^= 1 << at % 8
    decode(data)


def test_two_hundred_truncations_and_bytes_too_many():
    source = random.Random(2)
    for _ in range(200):
        data = source.choice(list(PACKETS.values()))
        with pytest.raises(PacketError):
            decode(data[: source.randrange(len(data))])
        with pytest.raises(PacketError):
            decode(data + source.randbytes(source.choice((1, 64, 1000))))
        with pytest.raises(PacketError):
            decode(data + data)


@pytest.mark.parametrize("count", [4_000, pytest.param(100_000, marks=pytest.mark.full)])
def test_fuzzed_packets_in_a_process_of_bounded_memory(count):
    done = subprocess.run(
        [sys.executable, "-m", "tests.packets.fuzz", str(count), "3"],
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    tally = json.loads(done.stdout.splitlines()[-1])
    assert tally["errors"] + tally["same"] + tally["forged"] == count
    assert tally["errors"] > 0.75 * count
    assert tally["forged"] > 0.01 * count


def test_packets_read_in_blocks_are_what_decode_gives(monkeypatch):
    """Of wrong packets, too: what one refuses the other does."""
    monkeypatch.setattr("recis_core.packets.encoded_packet.BLOCK_ROWS", 4)
    source, good, read = random.Random(7), list(PACKETS.values()), 0
    for data in [*good, *(mutate(source, good).data for _ in range(400))]:
        try:
            expected = decode(data)
        except PacketError:
            with pytest.raises(PacketError):
                in_blocks(data)
            continue
        ids, erased, values = in_blocks(data)
        assert torch.equal(ids, expected.ids)
        assert torch.equal(erased, expected.erased)
        assert torch.equal(values.view(torch.int32), expected.rows.view(torch.int32))
        read += 1
    assert read > len(good)


def in_blocks(data):
    packet = open_packet(data, max_bytes=1 << 32)
    if packet.is_commit:
        return decode(data).ids, decode(data).erased, decode(data).rows
    blocks = [rows for _, rows in packet.blocks()]
    return packet.ids(), packet.erased(), torch.cat(blocks) if blocks else torch.zeros(0, packet.header.dim)


def test_the_judge_can_fail():
    other, sent = PACKETS["fp32"], PACKETS["bf16"]
    with pytest.raises(SystemExit, match="damaged bytes were read"):
        outcome(Mutation(other, forged=False), {}, set())
    with pytest.raises(SystemExit, match="another label gave other content"):
        outcome(Mutation(other, forged=True), {}, {identity(decode(sent))})
    raw = encode(table="t", ids=IDS, rows=rows()[:, :1].nan_to_num())
    lying = decode(raw)
    lying.ids[0] += 1
    with pytest.raises(SystemExit, match=r"section ids\.raw was not read"):
        check_truly_read(lying, raw)


def test_the_memory_bound_can_fail():
    code = "import torch; from tests.packets.fuzz import bound_memory; bound_memory(); torch.ones(1 << 26)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode
    assert "allocate memory" in done.stderr
