"""Bytes changed under a store: it says which file and what it found, and never gives a wrong row."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from recis_core.backends.errors import CorruptStorage, TableFull
from recis_core.table.disk import log, manifest, segment
from recis_core.table.disk.disk_store import DiskStore
from recis_core.table.disk.mapping import PAGE
from tests.tiers.disk_stores import MAPPED, B, arrays, open_store, rows_of

KEYS = [(0, i) for i in range(60)]
RECORD = B + 4  # a row and its check
WHOLE = b"".join(row.tobytes() for row in rows_of(KEYS, 0))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Of three segments, of 24, 24 and 12 rows."""
    store = open_store("disk", tmp_path)
    store.write(*arrays(KEYS), rows_of(KEYS, 0))
    store.close()
    return tmp_path


def change(path: Path, at: int, mask: int = 0x10) -> None:
    """A byte, in place, for the file may be mapped."""
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ mask]))


def test_bytes_of_a_segment(directory: Path) -> None:
    """Header and keys are compared at open, a row when it is read."""
    path = directory / "segment-00000002.rows"
    rows = range(2 * PAGE, path.stat().st_size, 11)
    found = {"open": 0, "read": 0}
    for at in [*range(0, 40, 3), *range(PAGE, PAGE + 24 * 12, 13), *rows]:
        change(path, at)
        found[_where_found(directory, path)] += 1
        change(path, at)
    assert found["read"] == len(rows)


def _where_found(directory: Path, path: Path) -> str:
    try:
        store = open_store("disk", directory)
    except CorruptStorage as error:
        return "open" if str(path) in str(error) else str(error)
    with closing(store), pytest.raises(CorruptStorage, match=path.name):
        store.read(*arrays(KEYS))
    return "read"


@pytest.mark.parametrize("mapped_bytes", MAPPED.values(), ids=MAPPED)
def test_a_damaged_row_says_so_wherever_it_is_met(directory: Path, mapped_bytes: int) -> None:
    store = open_store("disk", directory, mapped_bytes=mapped_bytes)
    change(directory / "segment-00000001.rows", 2 * PAGE + 5 * RECORD)
    message = r"segment-00000001.rows: row 5, of id 5 of table 0, does not fit its check"
    for call in (lambda: store.read(*arrays(KEYS)), store.verify, lambda: list(store.scan())):
        with pytest.raises(CorruptStorage, match=message):
            call()
    here, rows = store.read(*arrays(KEYS[6:]))
    assert here.all()
    assert rows.tobytes() == WHOLE[6 * B :]
    store.close()


@pytest.mark.parametrize("mapped_bytes", MAPPED.values(), ids=MAPPED)
def test_a_damaged_check_says_so_wherever_it_is_met(directory: Path, mapped_bytes: int) -> None:
    """Each bit of it counts, and it counts for its own row alone."""
    store = open_store("disk", directory, mapped_bytes=mapped_bytes)
    for bit in range(32):
        at, mask = 2 * PAGE + 5 * RECORD + B + bit // 8, 1 << bit % 8
        change(directory / "segment-00000001.rows", at, mask)
        for call in (lambda: store.read(*arrays(KEYS)), store.verify):
            with pytest.raises(CorruptStorage, match="row 5, of id 5 of table 0, does not fit its check"):
                call()
        others = KEYS[:5] + KEYS[6:]
        assert store.read(*arrays(others))[1].tobytes() == rows_of(others, 0).tobytes()
        change(directory / "segment-00000001.rows", at, mask)
    assert store.read(*arrays(KEYS))[1].tobytes() == WHOLE
    store.close()


def test_limits_of_the_index_are_limits_of_a_directory(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "SEGMENTS", 4)
    store = open_store("disk", directory)
    with pytest.raises(TableFull, match="has had 3 segments, and the index numbers no more"):
        store.write(*arrays(KEYS), rows_of(KEYS, 1))
    assert store.read(*arrays(KEYS))[1].tobytes() == WHOLE
    store.close()
    monkeypatch.setattr(segment, "ROWS", 23)
    with pytest.raises(CorruptStorage, match=r"segment-00000001.rows has room for 24 rows, .* reads 23 rows a segment"):
        open_store("disk", directory)


def test_a_file_cut_while_it_is_open(directory: Path) -> None:
    """By maps the system would kill the process. A row read twice is not taken for what it was before."""
    store = open_store("disk", directory, mapped_bytes=0)
    for left in (B + 3, B, 1, 0):
        os.truncate(directory / "segment-00000001.rows", 2 * PAGE + 5 * RECORD + left)
        with pytest.raises(CorruptStorage, match="row 5, of id 5 of table 0, does not fit its check"):
            store.read(*arrays(KEYS))
    assert store.read(*arrays(KEYS[:5] * 2))[1].tobytes() == 2 * WHOLE[: 5 * B]
    store.close()


def test_compaction_moves_no_damaged_row(directory: Path) -> None:
    """Its thread leaves the file alone, and the next call tells."""
    change(directory / "segment-00000001.rows", 2 * PAGE + 5 * RECORD)
    store = open_store("disk", directory)
    others = KEYS[6:24]
    store.write(*arrays(others), rows_of(others, 1))
    with pytest.raises(CorruptStorage, match="row 5, of id 5"):
        store.compact()  # or the thread was faster, and this call tells what it met
    store.flush()
    assert (directory / "segment-00000001.rows").exists()
    assert store.read(*arrays(others))[1].tobytes() == rows_of(others, 1).tobytes()
    store.close()


def test_damaged_keys_are_found_by_scan_and_compaction(directory: Path) -> None:
    store = open_store("disk", directory)
    change(directory / "segment-00000001.rows", PAGE + 3)
    for call in (store.verify, lambda: list(store.scan())):
        with pytest.raises(CorruptStorage, match=r"segment-00000001.rows: the 24 keys have xxh3"):
            call()
    assert store.read(*arrays(KEYS))[1].tobytes() == WHOLE
    store.close()


@pytest.mark.parametrize("cut", [1, RECORD, 3 * PAGE])
def test_a_cut_segment(directory: Path, cut: int) -> None:
    path = directory / "segment-00000003.rows"
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(CorruptStorage, match=r"segment-00000003.rows (has .* It was cut|is no segment)"):
        open_store("disk", directory)


def test_a_missing_segment(directory: Path) -> None:
    (directory / "segment-00000002.rows").unlink()
    with pytest.raises(CorruptStorage, match=r"segment-00000002.rows is missing, and the manifest names it"):
        open_store("disk", directory)


def test_segments_exchanged(directory: Path) -> None:
    first, second = directory / "segment-00000001.rows", directory / "segment-00000002.rows"
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)
    with pytest.raises(CorruptStorage, match=r"segment-00000001.rows: the 24 keys have xxh3"):
        open_store("disk", directory)


def test_bytes_of_the_manifest(directory: Path) -> None:
    path = directory / "manifest.json"
    whole = path.read_bytes()
    for at in range(0, len(whole), 2):
        change(path, at)
        with pytest.raises(CorruptStorage, match="manifest.json"):
            open_store("disk", directory)
        path.write_bytes(whole)
    open_store("disk", directory).close()


def test_no_manifest_and_another_format(directory: Path) -> None:
    path = directory / "manifest.json"
    facts = json.loads(path.read_text())
    assert facts.pop("format") == manifest.FORMAT == 2
    digest = facts.pop("xxh3")
    assert digest == manifest._digest({"format": 2, **facts})
    old = {"format": 1, **facts}
    path.write_text(json.dumps({**old, "xxh3": manifest._digest(old)}))
    with pytest.raises(CorruptStorage, match=r"is of format 1; this recis-core reads 2. Restore .*, or name an empty"):
        open_store("disk", directory)
    path.write_text("{}")
    with pytest.raises(CorruptStorage, match=r"manifest.json cannot be read"):
        open_store("disk", directory)
    path.unlink()
    with pytest.raises(CorruptStorage, match=r"has 3 segments and no manifest.json"):
        open_store("disk", directory)


def test_a_segment_of_another_format(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a manifest of this one."""
    monkeypatch.setattr(segment, "FORMAT", 1)
    header = segment._header(B, 24)
    monkeypatch.undo()
    with (directory / "segment-00000001.rows").open("r+b") as file:
        file.write(header)
    with pytest.raises(CorruptStorage, match=r"format 1 with 20 bytes .* format 2 with 20 was expected. Restore"):
        open_store("disk", directory)


def test_a_row_at_another_keys_place(directory: Path) -> None:
    """Two rows exchanged, with their checks: each is what was written once, and neither is its key's."""
    path = directory / "segment-00000001.rows"
    data = bytearray(path.read_bytes())
    first, second = (slice(2 * PAGE + i * RECORD, 2 * PAGE + (i + 1) * RECORD) for i in (3, 4))
    data[first], data[second] = data[second], data[first]
    path.write_bytes(data)
    store = open_store("disk", directory)
    with pytest.raises(CorruptStorage, match="row 3, of id 3"):
        store.read(*arrays(KEYS))
    store.close()


@pytest.mark.parametrize("row_bytes", [1, 7, 8, 9, 80, 256])
def test_every_bit_of_a_row_counts(tmp_path: Path, row_bytes: int) -> None:
    store = DiskStore(tmp_path, row_bytes, tag="test", sync=False)
    ids, tables = arrays([(0, 1)])
    store.write(ids, tables, np.arange(row_bytes, dtype=np.uint8)[None])
    path = tmp_path / "segment-00000001.rows"
    at = path.stat().st_size - row_bytes - 4
    for bit in range(8 * row_bytes + 32):
        change(path, at + bit // 8, 1 << bit % 8)
        with pytest.raises(CorruptStorage, match="row 0, of id 1"):
            store.read(ids, tables)
        change(path, at + bit // 8, 1 << bit % 8)
    assert store.read(ids, tables)[0].all()
    store.close()
