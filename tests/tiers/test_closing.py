"""Closing: everything is given back once, whatever went wrong before; a process and a state that go say nothing."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from recis_core.backends.errors import CorruptStorage, RecisError, StorageFull
from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.table.disk import compaction, disk_index, disk_store, rows_view
from recis_core.table.disk.manifest import Manifest
from recis_core.table.tiers import disk_handle
from tests.tiers.disk_stores import open_store
from tests.tiers.training import adam, cache_in, engine_of, tiers_of
from tests.training.loop import random_batches, train

ROOT = Path(__file__).parents[2]


others: set[int | None] = set()  # threads of stores that other tests left to their end


@pytest.fixture(autouse=True)
def count_others() -> None:
    others.clear()
    others.update(t.ident for t in threading.enumerate())


def threads() -> set[str]:
    return {t.name for t in threading.enumerate() if t.name.startswith("recis-disk") and t.ident not in others}


def handles() -> int:
    return len(os.listdir("/proc/self/fd"))


def trained(folder: Path, *, keep: bool = True) -> EmbeddingEngine:
    engine = engine_of(cache_in(folder, 8, 12, keep=keep))
    train(engine, adam(engine), random_batches(6))
    return engine


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (disk_store, "MappedMemory"), (disk_store, "RowReader"), (disk_store, "DiskIndex"), (disk_store, "Log"),
        (disk_store, "Reserve"), (disk_store, "Compactor"), (disk_store, "open_directory"), (disk_index, "Entries"),
        (rows_view.RowsView, "of"), (rows_view, "ThreadPoolExecutor"),
        (compaction.Compactor, "look"), (compaction.threading, "Thread"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)  # fmt: skip
@pytest.mark.parametrize(
    "error", [MemoryError(), OSError(errno.EMFILE, "too many open files")], ids=["memory", "handles"]
)
def test_a_store_that_cannot_be_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: object, name: str, error: Exception
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    open_store("disk", tmp_path).close()
    gc.collect()  # of what other tests left
    before = handles()
    with monkeypatch.context() as patched:
        patched.setattr(module, name, fails)
        with pytest.raises(type(error)):
            open_store("disk", tmp_path)
    gc.collect()
    assert threads() == set()
    assert handles() <= before
    open_store("disk", tmp_path).close()


def test_tiers_that_cannot_take_their_disk_give_it_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(cache_in(tmp_path, 8, 12, keep=True))
    optimizer = adam(engine)
    with monkeypatch.context() as patched:
        patched.setattr(disk_handle.weakref, "finalize", lambda *_: (_ for _ in ()).throw(MemoryError()))
        with pytest.raises(MemoryError):
            engine(random_batches(1)[0])
    assert threads() == set()
    train(engine, optimizer, random_batches(3))
    engine.close()


@pytest.mark.parametrize("what", ["all of it", "lock", "manifest.json", "segment-00000001.rows"])
def test_an_engine_whose_files_went_closes_once(tmp_path: Path, what: str) -> None:
    engine = trained(tmp_path)
    engine.flush()
    [folder] = tmp_path.iterdir()
    train(engine, adam(engine), random_batches(4, seed=1))
    if what == "all of it":
        shutil.rmtree(folder)
    else:
        (folder / what).unlink()
    if what != "manifest.json":  # which a flush writes anew
        for call in (engine.flush, engine.close):
            with pytest.raises(RecisError, match=str(tmp_path)):
                call()
    engine.close()
    engine.close()
    assert threads() == set()
    with pytest.raises(RecisError, match="the engine was closed"):
        engine.stats()


def test_a_failed_disk_is_given_back_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = trained(tmp_path)

    def fails(path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(disk_store, "sync_file", fails)
    for call in (engine.flush, engine.close):
        with pytest.raises(OSError, match="disk failed|Input/output"):
            call()
    engine.close()
    assert threads() == set()


def test_a_full_disk_may_be_closed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first close gave nothing back, for nothing was lost."""
    engine = trained(tmp_path)

    def fails(*_: object, **__: object) -> None:
        raise StorageFull("full")

    with monkeypatch.context() as patched:
        patched.setattr(Manifest, "commit", fails)
        with pytest.raises(StorageFull):
            engine.close()
    ids = engine.table("f").ids()
    engine.close()
    assert threads() == set()
    again = engine_of(cache_in(tmp_path, 8, 12, keep=True))
    adam(again)
    assert again.table("f").ids().tolist() == ids.tolist()
    again.close()


def test_all_tables_are_closed_though_one_fails(tmp_path: Path) -> None:
    options = {name: EmbeddingOption(dim, device="cpu", backend="numba") for name, dim in (("a", 4), ("b", 8))}
    engine = EmbeddingEngine(options, cache=cache_in(tmp_path, 8, 12, keep=True))
    for batch in random_batches(6, features="ab"):
        engine(batch)
    both = [tiers_of(engine, name) for name in "ab"]
    shutil.rmtree(both[0].lower.disk.path)
    with pytest.raises(CorruptStorage):
        engine.close()
    assert [state.disk.closed for state in both] == [True, True]
    assert threads() == set()


ENDS = """
import gc, shutil, sys
from pathlib import Path
from tests.tiers.test_closing import trained
how, folder = sys.argv[1], Path(sys.argv[2])
engines = [trained(folder / kind, keep=kind == "keep") for kind in ("keep", "scratch")]
shutil.rmtree(folder)
if how == "collected":
    engines.clear()
    gc.collect()
"""


@pytest.mark.parametrize("how", ["collected", "at exit"])
def test_states_that_go_without_their_files_say_nothing(tmp_path: Path, how: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", ENDS, how, str(tmp_path / "disk")],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (0, "")
    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr
