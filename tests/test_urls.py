"""What lies on this machine alone says so of a URL, of which a Path would make a folder here; file:// is a path."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from recis_core.compat.recis.framework.checkpoint_manager import Saver
from recis_core.hooks import JsonLinesHook, ProfilerHook
from recis_core.io import dataset_of
from recis_core.io.file_set import FileSet
from recis_core.nn import CacheConfig, EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseAdam
from recis_core.serialize import (
    CheckpointManager,
    latest_state,
    open_checkpoint,
    recis_source,
    save_state,
    torchrec_source,
    write_recis_checkpoint,
)
from recis_core.serving import FileSink, FileSource
from recis_core.table.disk import DiskStore
from recis_core.urls import is_url, local_path


def saver(path: str) -> Any:
    engine = EmbeddingEngine({"f": EmbeddingOption(2, device="cpu")})
    return Saver(engine, SparseAdam(engine.sparse_parameters()), path)


DOORS: dict[str, Callable[[str], Any]] = {
    "CacheConfig": lambda path: CacheConfig(device_rows=9, host_rows=9, disk=path),
    "JsonLinesHook": JsonLinesHook,
    "ProfilerHook": ProfilerHook,
    "FileSink": FileSink,
    "FileSource": FileSource,
    "DiskStore": lambda path: DiskStore(path, 8, tag="x"),
    "recis Saver": saver,
    "write_recis_checkpoint": lambda path: write_recis_checkpoint(path, {}, {"x": torch.zeros(2)}),
    "recis_source": recis_source,
    "torchrec_source": torchrec_source,
}


@pytest.mark.parametrize("name", DOORS)
def test_a_url_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="must be a path of this machine; got the URL s3://bucket/x"):
        DOORS[name]("s3://bucket/x")
    assert os.listdir() == []


PLACES: dict[str, Callable[[Path], Any]] = DOORS | {  # type: ignore[assignment]
    "CheckpointManager": CheckpointManager,
    "dataset_of": lambda path: FileSet().added(path, dataset_of(path).form),
    "latest_state": latest_state,
    "open_checkpoint": open_checkpoint,
    "save_state": lambda path: save_state(path, 1, {"x": 1}),
}


@pytest.mark.parametrize("name", PLACES)
def test_so_is_a_path_made_of_one(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="s3:/bucket/x was made of a URL, which a Path cannot hold"):
        PLACES[name](Path("s3://bucket/x"))
    assert os.listdir() == []


def test_names() -> None:
    assert [is_url(name) for name in ("s3://b/x", "simplecache::s3://b/x", "file:///x", "local://x", "x", "/s3:/x")] == [
        True, True, False, False, False, False,
    ]  # fmt: skip
    assert local_path("file:///a/b", "it") == Path("/a/b")
    assert local_path(Path("a"), "it") == Path("a")
    with pytest.raises(TypeError, match="it must be a path; got b'x'"):
        local_path(b"x", "it")  # type: ignore[arg-type]
