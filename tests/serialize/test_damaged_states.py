"""Flipped bits, changed digits, cut, lost and swapped files, and files that are none: all found, all named, none waited for."""

from __future__ import annotations

import os
import random
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recis_core.backends.errors import CorruptCheckpoint
from recis_core.serialize import latest_state, load_state
from recis_core.serialize.manifest import LIMIT
from tests.serialize.states import FULL, STATE, files_of, forge, refused, refused_or_whole, saved, seal

FILES = files_of(Path())
FLIPS = 2000 if FULL else 100  # of each file, or all its bits


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = saved(tmp_path)
    assert refused_or_whole(made) == "whole"
    return made


@pytest.mark.parametrize("name", FILES)
def test_every_flipped_bit_is_found(path: Path, name: str) -> None:
    file, rng = path / name, random.Random(name)
    good = file.read_bytes()
    for bit in rng.sample(range(8 * len(good)), min(FLIPS, 8 * len(good))):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        file.write_bytes(bad)
        refused(path)
    file.write_bytes(good)
    assert refused_or_whole(path) == "whole"


def test_every_changed_digit_of_the_manifest_is_found(path: Path) -> None:
    file, rng = path / "manifest.json", random.Random(0)
    good = file.read_bytes()
    digits = [i for i, byte in enumerate(good) if chr(byte).isdigit()]
    for at in digits:
        bad = bytearray(good)
        bad[at] = ord(rng.choice([d for d in "0123456789" if ord(d) != good[at]]))
        file.write_bytes(bad)
        assert "manifest.json" in refused(path)
        with pytest.raises(CorruptCheckpoint, match=r"manifest\.json"):
            latest_state(path.parent)


@pytest.mark.parametrize("name", FILES)
def test_every_cut_and_every_growth_is_found(path: Path, name: str) -> None:
    file = path / name
    good = file.read_bytes()
    cuts = {len(good) * k // 64 for k in range(64)} | {len(good) - 1}
    for bad in (
        *(good[:cut] for cut in cuts),
        good + b"\0",
        good + b"\n",
        good + good,
        b"\0" * len(good),
        b"\n" + good,
    ):
        file.write_bytes(bad)
        assert name in refused(path)


@pytest.mark.parametrize("name", FILES)
def test_two_bytes_swapped_or_a_span_lost_are_found(path: Path, name: str) -> None:
    file, rng = path / name, random.Random(name)
    good = file.read_bytes()
    for _ in range(200 if FULL else 20):
        a, b = sorted(rng.sample(range(len(good)), 2))
        bad = bytearray(good)
        bad[a], bad[b] = bad[b], bad[a]
        for data in (bytes(bad), good[:a] + good[b:], good[:a] + bytes(b - a) + good[b:]):
            file.write_bytes(data)
            if data != good:
                refused(path)


def test_files_that_change_places_are_found(path: Path) -> None:
    other = saved(path.parent, 8)
    for name in FILES[1:]:
        for theirs in FILES:
            if (other / theirs).read_bytes() != (other / name).read_bytes():
                shutil.copyfile(other / theirs, path / name)
                refused(path)
        shutil.copyfile(other / name, path / name)
    shutil.copyfile(other / "manifest.json", path / "manifest.json")
    assert "is of step 8" in refused(path)


def a_socket(file: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = os.getcwd()
        os.chdir(file.parent)  # names of sockets are short
        made.bind(file.name)
        os.chdir(here)


KINDS: dict[str, Callable[[Path], Any]] = {
    "directory": lambda file: file.mkdir(),
    "pipe": os.mkfifo,
    "socket": a_socket,
    "empty": lambda file: file.touch(),
    "nothing": lambda file: None,
    "link to nothing": lambda file: file.symlink_to("nowhere"),
    "link to itself": lambda file: file.symlink_to(file.name),
    "link to the same bytes": lambda file: file.symlink_to(file.with_name(file.name + ".kept")),
    "link to /dev/zero": lambda file: file.symlink_to("/dev/zero"),
    "link to a pipe": lambda file: (os.mkfifo(file.with_name("pipe")), file.symlink_to("pipe")),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FILES)
def test_what_is_no_file_is_refused_at_once(path: Path, name: str, kind: str) -> None:
    file = path / name
    file.rename(file.with_name(name + ".kept"))
    KINDS[kind](file)
    assert name in refused(path)
    if name == "manifest.json":
        with pytest.raises(CorruptCheckpoint, match=r"manifest\.json"):
            latest_state(path.parent)
        with pytest.raises(CorruptCheckpoint, match=r"manifest\.json"):
            latest_state(path)


@pytest.mark.timeout(20)
def test_a_device_is_refused_at_once(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root makes devices")
    for name in FILES:
        (path / name).rename(path / "kept")
        try:
            os.mknod(path / name, 0o20600, os.makedev(1, 5))
        except OSError as error:
            pytest.skip(f"no device can be made here: {error}")
        assert name in refused(path)
        (path / name).unlink()
        (path / "kept").rename(path / name)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("nothing", "directory", "link to the same bytes")])
@pytest.mark.parametrize("at", ["directory of states", "newest state"])
def test_what_is_no_directory_is_refused_at_once(path: Path, kind: str, at: str) -> None:
    stands = path.parent / ("step-00000009" if at == "newest state" else "states")
    KINDS[kind](stands)
    with pytest.raises(CorruptCheckpoint, match=stands.name):
        latest_state(path.parent if at == "newest state" else stands)
    with pytest.raises(CorruptCheckpoint, match=stands.name):
        load_state(stands)


def test_files_that_no_manifest_lists_are_nothing_to_a_state(path: Path) -> None:
    (path / "notes.txt").write_text("mine")
    (path / "more.safetensors").write_text("mine")
    assert refused_or_whole(path) == "whole"


# Manifests that end with the right hash, and say what no saved state says


def test_a_forged_manifest_of_equal_values_is_whole(path: Path) -> None:
    forge(path, lambda values: values)
    assert refused_or_whole(path) == "whole"


TENSOR = '"$tensor": ["/ids", "I64", [100]]'
TEXTS = {
    "nan": ('"step": 7', '"step": NaN'),
    "infinity": ("0.001", "Infinity"),
    "a number beyond floats": ("0.001", "1e999"),
    "an int beyond Python's": ('"step": 7', '"step": ' + "9" * 5000),
    "a negative step": ('"step": 7', '"step": -7'),
    "a step that is true": ('"step": 7', '"step": true'),
    "a key twice": ('"step": 7', '"step": 8, "step": 7'),
    "a part's key twice": ('"bytes": ', '"bytes": 1, "bytes": '),
    "a renamed key": ('"step": 7', '"stap": 7'),
    "a key too many": ('"step": 7', '"step": 7, "more": 1'),
    "a dict's key twice": ('["lr", 0.001]', '["lr", 0.001], ["lr", 0.003]'),
    "no parts": ('"parts"', '"party"'),
    "a tensor of no dtype": ('"I64"', '"I65"'),
    "a tensor of a dtype's number": ('"I64"', "64"),
    "a tensor of another dtype": ('"I64"', '"F64"'),
    "a tensor of another width": ('"I64"', '"I32"'),
    "a tensor of another shape": (TENSOR, TENSOR.replace("100", "50, 2")),
    "a tensor beyond the file": (TENSOR, TENSOR.replace("100", "10000000000")),
    "a tensor beyond memory": (TENSOR, TENSOR.replace("100", "4611686018427387904")),
    "an empty tensor beyond memory": (TENSOR, TENSOR.replace("100", "0, 4611686018427387904, 4611686018427387904")),
    "a shape that is none": (TENSOR, TENSOR.replace("[100]", "[-1, -100]")),
    "a shape of fractions": (TENSOR, TENSOR.replace("[100]", "[100.0]")),
    "a shape of truth": (TENSOR, TENSOR.replace("[100]", "[100, true]")),
    "a shape of a word": (TENSOR, TENSOR.replace("[100]", '"100"')),
    "many dimensions": (TENSOR, TENSOR.replace("[100]", "[100" + ", 1" * 100 + "]")),
    "a tensor of another name": ('"/ids"', '"/idz"'),
    "a tensor twice": ('"/weights"', '"/ids"'),
    "a tensor of safetensors' own name": ('"/ids"', '"__metadata__"'),
    "a value of no kind": ('{"$float": "inf"}', '{"$pickle": "inf"}'),
    "a value of two kinds": ('{"$float": "inf"}', '{"$float": "inf", "$dict": []}'),
    "a value of none": ('{"$float": "inf"}', "{}"),
    "a float of a word": ('{"$float": "inf"}', '{"$float": "infinite"}'),
    "a float of a list": ('{"$float": "inf"}', '{"$float": ["inf"]}'),
    "a dict of a word": ('{"$float": "inf"}', '{"$dict": "inf"}'),
    "a pair of three": ('["lr", 0.001]', '["lr", 0.001, 1]'),
    "a key of lists": ('["lr", 0.001]', "[[1], 0.001]"),
    "a key of a tuple": ('["lr", 0.001]', '[{"$tuple": [1]}, 0.001]'),
    "deep lists": ('{"$float": "inf"}', "[" * 300 + "]" * 300),
    "deeper lists": ('{"$float": "inf"}', "[" * 100_000 + "]" * 100_000),
    "parts of a list": ('"parts": {', '"parts": [], "party": {'),
    "a size of a word": ('"bytes": ', '"bytes": "x", "bites": '),
}


@pytest.mark.parametrize("case", TEXTS)
def test_a_forged_text_is_refused(path: Path, case: str) -> None:
    forge(path, lambda values: values)
    text = (path / "manifest.json").read_text().rpartition(', "xxh3_128"')[0] + "}"
    was, becomes = TEXTS[case]
    assert was in text
    seal(path, text.replace(was, becomes, 1).encode())
    refused(path)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"}",
        b"{}",
        b"[]",
        b"null",
        b"7}",
        b'"\xff"}',
        b"\xff\xfe{}",
        b'{"format": 2}',
        b'{"a": "\x00"}',
        b"[" * 5000,
    ],
)
def test_a_forged_file_is_refused(path: Path, text: bytes) -> None:
    (path / "manifest.json").write_bytes(text)
    refused(path)
    seal(path, text)
    refused(path)


NAMES = (
    "../outside",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "..",
    ".",
    "",
    ".hidden",
    "nul\0",
    "line\n",
    "a" * 300,
    "C:x",
    " x",
    "\ud800",
)


@pytest.mark.parametrize("name", NAMES)
def test_no_part_s_name_leads_out_of_the_directory(path: Path, name: str) -> None:
    shutil.copyfile(path / "rows.safetensors", path.parent / "outside.safetensors")
    forge(path, lambda values: values | {"parts": values["parts"] | {name: values["parts"]["rows"]}})
    assert "a part's name is a file's" in refused(path)


def test_a_part_of_another_size_or_hash_is_refused(path: Path) -> None:
    sizes: list[Any] = [0, 2**70, -1, 1.5, None]
    for pair in [*(("bytes", size) for size in sizes), ("xxh3_128", "0" * 32), ("xxh3_128", 3)]:
        forge(path, lambda values, pair=pair: values["parts"]["rows"].update([pair]))
        refused(path)


@pytest.mark.timeout(20)
def test_absurd_sizes_are_refused_without_being_read(path: Path) -> None:
    for name in FILES:
        good = (path / name).read_bytes()
        os.truncate(path / name, 1 << 40)
        assert name in refused(path)
        os.truncate(path / name, LIMIT + 1)
        assert name in refused(path)
        (path / name).write_bytes(good)
    assert refused_or_whole(path) == "whole"


def test_a_state_of_the_format_before_says_what_reads_it(path: Path) -> None:
    (path / "manifest.json").write_text('{"format": 1, "placement": 1, "step": 7, "parts": {}, "hashes": {}}')
    assert "versions (1, 1), or is damaged" in refused(path)
    assert len(STATE) == len(FILES) - 1
