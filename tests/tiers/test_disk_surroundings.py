"""Files of a kept directory that vanish, shrink or are replaced: a typed error that names them, or the right rows; never
another's file changed, a thread left, or the process gone.
"""

from __future__ import annotations

import itertools
import os
import shutil
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from recis_core.backends.errors import CorruptStorage, NotAFile, RecisError, StorageInUse
from tests.tiers.disk_stores import MAPPED, arrays, open_store, rows_of

KEYS = [(0, i) for i in range(60)]  # three segments, of 24, 24 and 12 rows
WHOLE = rows_of(KEYS, 0).tobytes()
PRECIOUS = b"precious\n" * 1000
FILES = ("lock", "manifest.json", "manifest.json.writing", "reserve", "segment-00000001.rows", "segment-00000003.rows")
ALARM = 20


def vanish(path: Path, victim: Path) -> None:
    path.unlink(missing_ok=True)


def cut(path: Path, victim: Path) -> None:
    if path.exists():
        os.truncate(path, path.stat().st_size * 5 // 8)


def empty(path: Path, victim: Path) -> None:
    if path.exists():
        os.truncate(path, 0)


def link(path: Path, victim: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(victim)


def dangling_link(path: Path, victim: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(victim.parent / "nowhere")


def hard_link(path: Path, victim: Path) -> None:
    path.unlink(missing_ok=True)
    path.hardlink_to(victim)


def directory(path: Path, victim: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def pipe(path: Path, victim: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def device(path: Path, victim: Path) -> None:
    path.unlink(missing_ok=True)
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero, which never ends
    except OSError:
        pytest.skip("making a device needs root")


def copy(path: Path, victim: Path) -> None:
    """The same bytes, another file."""
    if path.exists():
        shutil.copy(path, path.with_suffix(".copy"))
        path.with_suffix(".copy").rename(path)


def all_of_it(path: Path, victim: Path) -> None:
    shutil.rmtree(path.parent)


MISHAPS: tuple[Callable[[Path, Path], None], ...] = (
    vanish, cut, empty, link, dangling_link, hard_link, directory, pipe, device, copy, all_of_it,
)  # fmt: skip


def read(store: Any) -> None:
    here, rows = store.read(*arrays(KEYS))
    assert here.all()
    assert rows.tobytes() == WHOLE


def more(store: Any) -> None:
    keys = [(1, i) for i in range(30)]
    store.write(*arrays(keys), rows_of(keys, 1))


def flush(store: Any) -> None:
    more(store)
    store.flush()


def scan(store: Any) -> None:
    found = sorted(
        (i, row.tobytes())
        for ids, tables, rows in store.scan()
        for i, t, row in zip(ids, tables, rows, strict=True)
        if t == 0
    )
    assert b"".join(row for _, row in found) == WHOLE


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "victim"
    path.write_bytes(PRECIOUS)
    path.chmod(0o644)
    return path


def made(path: Path, mapped_bytes: int = 2 << 30) -> Any:
    store = open_store("disk", path, mapped_bytes=mapped_bytes)
    store.write(*arrays(KEYS), rows_of(KEYS, 0))
    store.flush()
    return store


def tried(call: Callable[[], Any]) -> Exception | None:
    """What it raised, which must be ours."""
    try:
        call()
    except RecisError as error:
        return error
    return None


def assert_untouched(victim: Path) -> None:
    assert victim.read_bytes() == PRECIOUS
    assert stat.S_IMODE(victim.stat().st_mode) == 0o644


others: set[int | None] = set()  # threads of stores that other tests left to their end


@pytest.fixture(autouse=True)
def count_others() -> None:
    others.clear()
    others.update(t.ident for t in threading.enumerate())


def threads() -> set[str]:
    return {t.name for t in threading.enumerate() if t.name.startswith("recis-disk") and t.ident not in others}


@pytest.mark.timeout(ALARM * 30)
@pytest.mark.parametrize("mishap", MISHAPS, ids=lambda m: m.__name__)
def test_a_store_opened_after_a_mishap(tmp_path: Path, victim: Path, mishap: Callable[[Path, Path], None]) -> None:
    for name in FILES:
        path = tmp_path / name.replace(".", "-") / "rows"
        made(path).close()
        mishap(path / name, victim)
        stores: list[Any] = []
        error = tried(lambda: stores.append(open_store("disk", path)))  # noqa: B023, called at once
        if error is not None:
            assert isinstance(error, (CorruptStorage, NotAFile, StorageInUse))
            assert str(path) in str(error)
        for store in stores:
            if mishap is not all_of_it:
                read(store)
            flush(store)
            store.close()
        assert threads() == set()
        assert_untouched(victim)


@pytest.mark.timeout(ALARM * 30)
@pytest.mark.parametrize("mishap", MISHAPS, ids=lambda m: m.__name__)
@pytest.mark.parametrize("mapped_bytes", [2 << 30, 0], ids=["by maps", "by handles"])
def test_a_mishap_to_an_open_store(
    tmp_path: Path, victim: Path, mishap: Callable[[Path, Path], None], mapped_bytes: int
) -> None:
    calls = {"read": read, "scan": scan, "flush": flush, "close": lambda store: store.close()}
    for number, (name, (call, act)) in enumerate(itertools.product(FILES, calls.items())):
        path = tmp_path / str(number) / "rows"
        store = made(path, mapped_bytes)
        mishap(path / name, victim)
        error = tried(lambda: act(store))  # noqa: B023, called at once
        assert error is None or str(path) in str(error), f"{call} with {name}: {error}"
        if name.startswith("segment") and mishap in (cut, empty) and call in ("read", "scan") and "1" in name:
            assert isinstance(error, CorruptStorage)
        closing = tried(store.close)
        assert closing is None or str(path) in str(closing)
        store.close()
        assert threads() == set()
        assert_untouched(victim)
        again = tried(lambda: open_store("disk", path).close())  # noqa: B023, called at once
        assert again is None or str(path) in str(again)
        assert_untouched(victim)


@pytest.mark.parametrize("mapped_bytes", MAPPED.values(), ids=MAPPED)
def test_a_file_cut_while_it_is_open_never_ends_the_process(tmp_path: Path, mapped_bytes: int) -> None:
    store = made(tmp_path, mapped_bytes)
    for size in (8192 + 5 * 24, 8192, 100, 0):
        os.truncate(tmp_path / "segment-00000001.rows", size)
        for call in (read, scan, lambda s: s.verify()):
            with pytest.raises(CorruptStorage, match=r"segment-00000001.rows"):
                call(store)
    with suppress(RecisError):
        store.close()
    assert threads() == set()


def test_a_lock_that_was_removed_stops_flushes_before_two_write_one_directory(tmp_path: Path) -> None:
    store = made(tmp_path / "rows")
    (tmp_path / "rows" / "lock").unlink()
    more(store)
    with pytest.raises(CorruptStorage, match="lock was removed or replaced while it was held"):
        store.flush()
    read(store)
    with pytest.raises(CorruptStorage, match="lock was removed"):
        store.close()
    store.close()
    assert threads() == set()


def test_files_are_their_users_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for mode, (files, folder) in {"": (0o600, 0o700), "640": (0o640, 0o750)}.items():
        monkeypatch.setenv("RECIS_FILE_MODE", mode)
        path = tmp_path / f"rows{mode}"
        store = made(path)
        assert {stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()} == {files}
        assert stat.S_IMODE(path.stat().st_mode) == folder
        store.close()
    monkeypatch.setenv("RECIS_FILE_MODE", "888")
    with pytest.raises(ValueError, match="RECIS_FILE_MODE"):
        open_store("disk", tmp_path / "bad")
    assert threads() == set()
