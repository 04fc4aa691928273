"""Checkpoints in a store that fsspec opens: the manifest is written last, and is all that says whether there is one."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from recis_core.errors import CorruptCheckpoint
from recis_core.serialize import DeltaPolicy, KeepLast, new_checkpoint, open_checkpoint
from tests.serialize.checkpoint.blocks import block, by_id
from tests.serialize.checkpoint.runs import Run


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"memory://recis-store-{tmp_path.name}"


def files_in(url: str) -> list[str]:
    fs, inner = fsspec.core.url_to_fs(url)
    return sorted(name.split("/", 2)[2] for name in fs.find(inner))


def test_a_save_that_was_killed_is_no_checkpoint_and_the_next_removes_it(url: str) -> None:
    fs, inner = fsspec.core.url_to_fs(url)
    fs.pipe_file(f"{inner}/step-00000007/0123456789abcdef/dense.safetensors", b"half")
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        open_checkpoint(url)
    for _ in range(2):
        with new_checkpoint(url, 7) as writer:
            writer.table("user", [block(range(5))], dim=4)
    found = open_checkpoint(url)
    assert by_id(found.blocks("user")) == by_id([block(range(5))])
    folder = found.manifest.head.folder
    assert files_in(url) == [f"step-00000007/{folder}/table.user.0.safetensors", "step-00000007/manifest.json"]


def test_damage_is_found(url: str) -> None:
    with new_checkpoint(url, 7) as writer:
        writer.table("user", [block(range(5))], dim=4)
    fs, inner = fsspec.core.url_to_fs(url)
    for name in files_in(url):
        good = fs.cat_file(f"{inner}/{name}")
        for bad in (good[:-1], good[:-1] + bytes([good[-1] ^ 1])):
            fs.pipe_file(f"{inner}/{name}", bad)
            with pytest.raises(CorruptCheckpoint, match=name.rpartition("/")[2]):
                open_checkpoint(url).verify()
        fs.pipe_file(f"{inner}/{name}", good)
    open_checkpoint(url).verify()


def test_deltas_are_saved_pruned_and_restored(url: str) -> None:
    run, again = Run(), Run(seed=6)
    manager = run.manager(url, delta=DeltaPolicy(2), keep=KeepLast(1))
    for step in range(1, 5):
        run.step([step])
        manager.save(step)
    manager.close()
    assert manager.steps() == [3, 4]
    assert {name.split("/")[0] for name in files_in(url)} == {"step-00000003", "step-00000004"}
    again.manager(url).restore()
    assert again.state() == run.state()
