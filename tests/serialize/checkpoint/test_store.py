"""Checkpoints in a store that fsspec opens: the manifest is written last, and is all that says whether there is one."""

from __future__ import annotations

import configparser
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem

from recis_core.errors import CorruptCheckpoint
from recis_core.serialize import (
    SavedState,
    latest_state,
    load_model,
    load_state,
    new_checkpoint,
    open_checkpoint,
    save_state,
)
from recis_core.serialize.saved_model import is_saved_state
from tests.serialize.checkpoint.blocks import block, by_id
from tests.serialize.checkpoint.runs import Run, deltas_go_round


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"memory://recis-store-{tmp_path.name}"


def files_in(url: str) -> list[str]:
    fs, inner = fsspec.core.url_to_fs(url)
    return sorted(name.split("/", 2)[2] for name in fs.find(inner))


def test_a_save_that_was_killed_is_no_checkpoint_and_the_next_removes_it(url: str) -> None:
    fs, inner = fsspec.core.url_to_fs(url)
    fs.pipe_file(f"{inner}/step-00000007/0123456789abcdef/dense.safetensors", b"half")
    with pytest.raises(FileNotFoundError, match="holds no saved state"):
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
    deltas_go_round(url)
    assert {name.split("/")[0] for name in files_in(url)} == {"step-00000003", "step-00000004"}


class Flaky(MemoryFileSystem):
    """Says of nothing whether it is there, while it is down."""

    protocol = "flaky"
    cachable = False
    down: ClassVar[Exception | None] = None

    def info(self, path: str, **more: Any) -> Any:
        if Flaky.down is not None:
            raise Flaky.down
        return super().info(path, **more)


@pytest.mark.parametrize(
    "error", [TimeoutError("no answer"), PermissionError("no rights"), configparser.Error("of a package")]
)
def test_a_store_that_cannot_say_is_no_empty_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    url, run = f"flaky://{tmp_path.name}", Run()
    run.step([1])
    manager = run.manager(url)
    manager.save(1)
    manager.close()
    before = run.state()
    monkeypatch.setattr(Flaky, "down", error)
    asks: list[Callable[[], Any]] = [
        lambda: latest_state(url), lambda: open_checkpoint(url), lambda: is_saved_state(url), manager.steps,
        lambda: run.manager(url).restore(),
    ]  # fmt: skip
    for ask in asks:
        with pytest.raises(OSError, match=r"no answer|no rights|flaky:.*Error: of a package"):
            ask()
    assert run.state() == before


def test_states_are_saved_and_read_by_their_url(url: str) -> None:
    value = {"x": {"step": 3, "t": torch.arange(4)}}
    for step in (3, 12):
        save_state(url, step, value)
    assert latest_state(url).name == "step-00000012"
    assert str(latest_state(url)).startswith("memory://")
    assert torch.equal(load_state(latest_state(url))["x"]["t"], value["x"]["t"])
    assert load_state(f"{url}/step-00000003")["x"]["step"] == 3
    assert SavedState(f"{url}/step-00000012").file_of("x").exists()
    with pytest.raises(FileNotFoundError, match="holds no saved state"):
        latest_state(f"{url}-of-another")


def test_models_are_loaded_by_url(url: str) -> None:
    run, again = Run(), Run(seed=6)
    run.step([1])
    manager = run.manager(url)
    manager.save(1)
    manager.close()
    load_model(url, again.model)
    assert again.sha() == run.sha()
    with pytest.raises(FileNotFoundError, match="no state that --save"):
        load_model(f"{url}-of-another", again.model)
