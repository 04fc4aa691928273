"""Packets written by an earlier recis-core: read as they were meant, and written again to the same bytes."""

import json

import pytest

from recis_core.exchange import decode
from recis_core.packets.packet_codec import ID_CODECS, ROW_CODECS
from tests.packets.golden import GOLDEN, VALUES, recorded
from tests.packets.samples import packets

NAMES = sorted(path.stem for path in GOLDEN.glob("*.packet"))


def test_every_codec_has_a_golden_file():
    assert set(ROW_CODECS) <= set(NAMES)
    assert set(NAMES) == set(packets()) == set(json.loads(VALUES.read_text()))


def test_codec_numbers_are_for_ever():
    numbers = {"fp32": 0, "bf16": 1, "fp16": 2, "fp8": 3, "int8": 4, "int4": 5, "sign": 6, "lossless": 7}
    assert numbers.items() <= ROW_CODECS.items()
    assert {"raw": 0, "packed": 1}.items() <= ID_CODECS.items()


@pytest.mark.parametrize("name", NAMES)
def test_golden_packets_hold_what_was_recorded(name):
    packet = decode((GOLDEN / f"{name}.packet").read_bytes())
    assert recorded(packet) == json.loads(VALUES.read_text())[name]


@pytest.mark.parametrize("name", NAMES)
def test_encoding_again_gives_the_same_bytes(name):
    assert packets()[name] == (GOLDEN / f"{name}.packet").read_bytes()
