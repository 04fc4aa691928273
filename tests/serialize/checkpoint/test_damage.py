"""Damage to any file of a chain of checkpoints, and forgeries with right hashes: a typed error that names the file; no code
runs, and no more memory is taken than the files have bytes.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import xxhash

from recis_core.errors import CorruptCheckpoint, NotAFile
from recis_core.serialize import DeltaPolicy, open_checkpoint
from tests.serialize.checkpoint.runs import Run
from tests.serialize.states import FULL, seal

FLIPS = 2000 if FULL else 60  # over all kinds of files
CUTS = range(0, 64) if FULL else range(0, 64, 16)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory, run = tmp_path_factory.mktemp("damaged"), Run()
    manager = run.manager(directory, delta=DeltaPolicy(), file_bytes=20_000)
    for step in (1, 2):
        run.step([step])
        manager.save(step, {"auc": 0.5})
    manager.close()
    return directory


def kinds_in(directory: Path) -> dict[str, Path]:
    """One file of each kind, of the full checkpoint and of the delta."""
    files = sorted(directory.glob("step-*/*"))
    return {f"{file.parent.name}/{file.name.split('.')[0]}": file for file in files}


def refused(directory: Path, file: Path) -> str:
    with pytest.raises(CorruptCheckpoint) as found:
        open_checkpoint(directory).verify()
    assert file.name in str(found.value)
    return str(found.value)


def test_flipped_bits(made: Path) -> None:
    rng, files = random.Random(0), list(kinds_in(made).values())
    assert len(files) > 15
    for file in rng.choices(files, k=FLIPS):
        good = file.read_bytes()
        bad, bit = bytearray(good), rng.randrange(8 * len(good))
        bad[bit // 8] ^= 1 << bit % 8
        file.write_bytes(bad)
        refused(made, file)
        file.write_bytes(good)
    open_checkpoint(made).verify()


def test_files_that_are_cut(made: Path) -> None:
    for file in kinds_in(made).values():
        good = file.read_bytes()
        for cut in {len(good) * n // 64 for n in CUTS}:
            file.write_bytes(good[:cut])
            said = refused(made, file)
            assert file.suffix == ".json" or "It ends in" in said
        file.write_bytes(good)
    open_checkpoint(made).verify()


def test_a_restore_of_damage_changes_nothing(made: Path) -> None:
    run = Run(seed=4)
    run.step([1])
    before, manager = run.state(), run.manager(made)
    for kind, file in kinds_in(made).items():
        if "metrics" in kind or (kind.startswith("step-00000001") and "table" not in kind):
            continue  # a restore does not read these
        good = file.read_bytes()
        file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        with pytest.raises(CorruptCheckpoint, match=file.name.split(".")[0]):
            manager.restore()
        assert run.state() == before
        file.write_bytes(good)
    assert manager.restore() is not None


class Boom:
    def __reduce__(self) -> Any:
        return os.mkdir, ("boom",)


def hashed(file: Path, data: bytes) -> Callable[[dict[str, Any]], None]:
    """Write a file, and let a manifest have its size and hash."""
    file.write_bytes(data)

    def change(manifest: dict[str, Any]) -> None:
        part = manifest["parts"][file.name.removesuffix(".safetensors")]
        part.update(bytes=len(data), xxh3_128=xxhash.xxh3_128_hexdigest(data))

    return change


def header_of_a_billion(data: bytes) -> bytes:
    return struct.pack("<Q", 10**9) + data[8:]


FORGED: dict[str, Callable[[bytes], bytes]] = {
    "pickle": lambda data: pickle.dumps(Boom()),
    "a pickle as long": lambda data: (pickle.dumps(Boom()) + data)[: len(data)],
    "header of 10^9": header_of_a_billion,
    "header past the file": lambda data: struct.pack("<Q", 2**63) + data[8:],
    "other names": lambda data: data.replace(b"/ids", b"/idx"),
    "other dtype": lambda data: data.replace(b'"F32"', b'"I32"'),
    "overlap": lambda data: data.replace(b'"data_offsets":[0,', b'"data_offsets":[8,'),
    "zip": lambda data: b"PK\x03\x04" + data[4:],
}


def reseal(path: Path, *changes: Callable[[dict[str, Any]], None]) -> None:
    values = json.loads((path / "manifest.json").read_bytes())
    del values["xxh3_128"]
    for change in changes:
        change(values)
    seal(path, json.dumps(values).encode())


@pytest.fixture
def one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    run = Run()
    run.step([1])
    manager = run.manager(tmp_path / "ckpt")
    manager.save(1)
    manager.close()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "ckpt" / "step-00000001"


@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_file_whose_hash_is_right(one: Path, kind: str) -> None:
    file = next(one.glob("table.user*"))
    data = FORGED[kind](file.read_bytes())
    assert data != file.read_bytes()
    reseal(one, hashed(file, data))
    refused(one, file)
    assert not Path("boom").exists()


def first_tensor(manifest: dict[str, Any]) -> list[Any]:
    """Where the manifest says what the ids of a table are: [name, dtype, shape]."""
    name = manifest["tables"]["user"]["files"][0][0]
    return manifest["parts"][name]["tree"]["$dict"][0][1]["$tensor"]


BOMBS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "10^15 ids": lambda m: first_tensor(m).__setitem__(2, [10**15]),
    "2^70 ids": lambda m: first_tensor(m).__setitem__(2, [2**70]),
    "empty but wide": lambda m: first_tensor(m).__setitem__(2, [0, 2**61]),
    "64 dimensions": lambda m: first_tensor(m).__setitem__(2, [2] * 64),
    "nested": lambda m: m["parts"]["dense"].update(tree=json.loads("[" * 500 + "]" * 500)),
    "path": lambda m: m["parts"].update({"../../out": m["parts"]["dense"]}),
    "absolute path": lambda m: m["parts"].update({"/etc/passwd": m["parts"]["dense"]}),
    "hidden": lambda m: m["parts"].update({".ssh": m["parts"]["dense"]}),
    "another dim": lambda m: m["tables"]["user"].update(dim=10**9),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_bombs_and_paths_are_refused_before_anything_is_read(one: Path, kind: str) -> None:
    reseal(one, BOMBS[kind])
    with pytest.raises(CorruptCheckpoint, match=r"manifest\.json|cannot hold"):
        open_checkpoint(one).verify()


@pytest.mark.parametrize("leads", ["out", "beside", "device", "folder"])
def test_links_out_of_the_directory_are_refused(one: Path, leads: str) -> None:
    file = next(one.glob("table.user*"))
    aside = {
        "out": one.parent.parent / "file",
        "beside": one / "kept",
        "device": Path("/dev/zero"),
        "folder": one.parent,
    }[leads]
    if leads in ("out", "beside"):
        aside.write_bytes(file.read_bytes())
    file.unlink()
    file.symlink_to(aside)
    with pytest.raises(CorruptCheckpoint, match="is a link; wanted a regular file") as found:
        open_checkpoint(one).verify()
    assert isinstance(found.value.__cause__, NotAFile)
    assert torch.is_tensor(open_checkpoint(one).part("dense")["tower.0.weight"])
