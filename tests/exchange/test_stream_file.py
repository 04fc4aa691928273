"""Streams in files: what is half there is waited for, what is damaged is refused, what crashed is cut."""

import logging
from contextlib import closing

import pytest
import torch

from backends.errors import PacketError, StreamGap
from recis_core.exchange.stream import DeltaReader, DeltaWriter, FileSink, FileSource, RowStore
from recis_core.nn import HashTable
from tests.exchange.served import assert_served

KEY, OTHER_KEY = b"sixteen bytes or more", b"another key of that length"


@pytest.fixture(params=[None, KEY], ids=["plain", "sealed"])
def key(request):
    return request.param


def written(path, versions=3, key=None):
    """(table, where each version ends)."""
    table = HashTable([4], 64, name="user", backend="torch")
    ends = []
    with DeltaWriter({"user": table}) as writer, closing(FileSink(path, key=key)) as sink:
        for version in range(versions):
            table(torch.arange(3) + 10 * version)
            writer.publish(sink)
            ends.append(path.stat().st_size)
    return table, ends


def test_a_file_cut_anywhere_holds_the_versions_before_the_cut(tmp_path, key):
    _, ends = written(tmp_path / "whole", key=key)
    data = (tmp_path / "whole").read_bytes()
    growing = tmp_path / "growing"
    store = RowStore(backend="torch")
    reader = DeltaReader(store, FileSource(growing, key=key))
    assert reader.poll() == 0  # no file yet
    for cut in range(0, len(data) + 1, 8):
        growing.write_bytes(data[:cut])
        assert reader.poll() == sum(end <= cut for end in ends)
    assert len(store.ids("user")) == 9


def test_a_reader_waits_for_a_version(tmp_path):
    written(tmp_path / "rows", versions=1)
    reader = DeltaReader(RowStore(backend="torch"), FileSource(tmp_path / "rows"))
    assert reader.wait_for(1, timeout=5) == 1
    with pytest.raises(TimeoutError, match=r"version 2 did not come within 0\.05 s; the store is at 1"):
        reader.wait_for(2, timeout=0.05)


def test_what_a_crash_left_is_cut_and_a_new_writer_goes_on_with_a_snapshot(tmp_path, key, caplog):
    path = tmp_path / "rows"
    _, ends = written(path, key=key)
    store = RowStore(backend="torch")
    reader = DeltaReader(store, FileSource(path, key=key))
    path.write_bytes(path.read_bytes()[: ends[-1] - 10])
    assert reader.poll() == 2
    with caplog.at_level(logging.WARNING):
        table, _ = written(path, versions=2, key=key)
    assert "of an unfinished version" in caplog.text
    assert path.stat().st_size > ends[1]
    reader.poll()
    assert store.version == 2
    assert_served(store, {"user": table})


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "rows"
    _, ends = written(path)
    with closing(FileSink(path)) as sink:
        held = sink.holds()

        def frames():
            yield bytes(1000)
            raise OSError("no space left")

        with pytest.raises(OSError, match="no space"):
            sink.send(frames())
        assert path.stat().st_size == ends[-1]
        assert sink.holds() == held


def test_any_damage_is_found_and_no_version_is_half_applied(tmp_path, key):
    path = tmp_path / "rows"
    _, ends = written(path, versions=2, key=key)
    data = path.read_bytes()
    for at in range(0, len(data), 37):
        path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        store = RowStore(backend="torch")
        reader = DeltaReader(store, FileSource(path, key=key))
        with pytest.raises(PacketError):
            reader.poll()
        assert store.version == (at >= ends[0])
        if store.version:
            assert len(store.ids("user")) == 3


def test_after_damage_inside_a_version_a_snapshot_mends(tmp_path):
    path = tmp_path / "rows"
    table = HashTable([4], 64, name="user", backend="torch")
    store = RowStore(backend="torch")
    reader = DeltaReader(store, FileSource(path))
    with DeltaWriter({"user": table}) as writer, closing(FileSink(path)) as sink:
        writer.publish(sink)
        before = path.stat().st_size
        table(torch.arange(5))
        writer.publish(sink)
        data = bytearray(path.read_bytes())
        data[before + 400] ^= 1
        path.write_bytes(data)
        table(torch.arange(9))
        writer.publish(sink)
        with pytest.raises(PacketError, match="damaged"):
            reader.poll()
        with pytest.raises(StreamGap, match="builds on 2; this store is at 1"):
            reader.poll()
        writer.publish(sink, snapshot=True)
        assert reader.poll() == 4
    assert_served(store, {"user": table})


def test_a_file_needs_the_key_it_was_sealed_with(tmp_path):
    written(tmp_path / "sealed", key=KEY)
    written(tmp_path / "plain")
    for name, key in (("sealed", OTHER_KEY), ("sealed", None), ("plain", KEY)):
        with pytest.raises(PacketError):
            DeltaReader(RowStore(), FileSource(tmp_path / name, key=key)).poll()
        with pytest.raises(PacketError):
            FileSink(tmp_path / name, key=key)


def test_a_key_must_be_one():
    with pytest.raises(TypeError, match="key must be bytes or None; got str"):
        FileSource("x", key="a string of some length")
    with pytest.raises(ValueError, match="at least 16 bytes; got 5"):
        FileSource("x", key=b"short")


@pytest.mark.parametrize("length", [3, 100])
def test_another_file_is_neither_appended_to_nor_cut(tmp_path, length):
    path = tmp_path / "notes.txt"
    path.write_text("not a stream"[:length].ljust(length))
    with pytest.raises(PacketError, match=r"notes\.txt, byte 0: a packet begins with"):
        FileSink(path)
    assert path.stat().st_size == length


def test_a_replaced_file_is_noticed(tmp_path):
    path = tmp_path / "rows"
    written(path)
    reader = DeltaReader(RowStore(), FileSource(path))
    reader.poll()
    path.unlink()
    written(path, versions=1)
    with pytest.raises(PacketError, match="it was replaced"):
        reader.poll()
