"""Streams in files: what is half there is waited for, what is damaged is refused, what crashed is cut."""

import logging
import os
import random
import signal
from contextlib import closing, suppress

import pytest
import torch

from recis_core.backends.errors import NotAFile, PacketError, StorageInUse, StreamGap
from recis_core.exchange.stream import DeltaReader, DeltaWriter, FileSink, FileSource, RowStore
from recis_core.nn import HashTable
from tests.serving.served import assert_served

FULL = os.environ.get("RECIS_TEST_FULL") == "1"
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


def test_flipped_bits_leave_a_whole_version_or_none(tmp_path, key):
    path, source = tmp_path / "rows", random.Random(5)
    table, ends = written(path, versions=2, key=key)
    data = path.read_bytes()
    for _ in range(2000 if FULL else 60):
        at = source.randrange(8 * len(data))
        path.write_bytes(data[: at // 8] + bytes([data[at // 8] ^ 1 << at % 8]) + data[at // 8 + 1 :])
        store = RowStore(backend="torch")
        with pytest.raises(PacketError):
            DeltaReader(store, FileSource(path, key=key)).poll()
        assert store.version == (at // 8 >= ends[0])


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


def test_frames_of_an_older_sealed_file_are_refused_behind_a_newer_one(tmp_path):
    """Each of its frames, and all of it, head or not; and a file's own frames at another place."""
    older, newer = tmp_path / "older", tmp_path / "newer"
    _, ends = written(older, versions=2, key=KEY)
    table, new_ends = written(newer, versions=3, key=KEY)
    old, new = older.read_bytes(), newer.read_bytes()
    for behind in (old, old[64:], old[64 : ends[0]], old[ends[0] :], new[64:], new[new_ends[1] :]):
        newer.write_bytes(new)
        store = RowStore(backend="torch")
        reader = DeltaReader(store, FileSource(newer, key=KEY))
        assert reader.poll() == 3
        newer.write_bytes(new + behind)
        with pytest.raises(PacketError, match="HMAC does not match|a packet begins with"):
            reader.poll()
        with pytest.raises(PacketError, match="HMAC does not match|a packet begins with"):
            FileSink(newer, key=KEY)
        for _ in range(3):
            with suppress(PacketError):
                reader.poll()
        assert_served(store, {"user": table})


def test_an_older_sealed_file_in_the_place_of_a_newer_one_is_noticed(tmp_path):
    older, newer = tmp_path / "older", tmp_path / "newer"
    written(older, versions=3, key=KEY)
    table, _ = written(newer, versions=2, key=KEY)
    store = RowStore(backend="torch")
    reader = DeltaReader(store, FileSource(newer, key=KEY))
    reader.poll()
    newer.write_bytes(older.read_bytes())
    with pytest.raises(PacketError, match="it was replaced"):
        reader.poll()
    newer.unlink()
    with pytest.raises(PacketError, match="is gone where .* bytes of it were read"):
        reader.poll()
    assert_served(store, {"user": table})


def test_plain_frames_of_a_stream_that_gave_way_are_refused(tmp_path):
    older, path = tmp_path / "older", tmp_path / "rows"
    written(older, versions=2)
    written(path, versions=1)
    second, first = path.read_bytes(), older.read_bytes()
    path.write_bytes(first + second + first)
    store = RowStore(backend="torch")
    with pytest.raises(StreamGap, match="gave way to"):
        DeltaReader(store, FileSource(path)).poll()
    assert store.version == 1


def test_a_file_has_one_writer(tmp_path, key):
    path = tmp_path / "rows"
    written(path, key=key)
    before = path.read_bytes()
    with closing(FileSink(path, key=key)) as sink:
        for _ in range(2):
            with pytest.raises(StorageInUse, match="a file has one writer"):
                FileSink(path, key=key)
        assert path.read_bytes() == before
        assert sink.holds()[1] == 3
    with closing(FileSink(path, key=key)) as sink:
        assert sink.holds()[1] == 3


def test_files_are_their_users_alone_and_regular(tmp_path, monkeypatch):
    written(tmp_path / "rows")
    assert (tmp_path / "rows").stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("RECIS_FILE_MODE", "644")
    written(tmp_path / "shared")
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o644 & ~umask()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "rows")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    for name in ("pipe", "directory", "link", "dangling"):
        with pytest.raises(NotAFile):
            FileSink(tmp_path / name)
        with pytest.raises(NotAFile):
            DeltaReader(RowStore(backend="torch"), FileSource(tmp_path / name)).poll()
    assert not (tmp_path / "nothing").exists()
    with closing(FileSink(tmp_path / "link", follow=True)) as sink:
        assert sink.holds()[1] == 3
    assert DeltaReader(RowStore(backend="torch"), FileSource(tmp_path / "link", follow=True)).poll() == 3


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_writer_goes_on_behind_a_cut_at_each_64th(tmp_path, key, caplog):
    """Whatever a crash left of the last version; a reader from before it, too, is served what is written next."""
    path = tmp_path / "rows"
    _, ends = written(path, versions=2, key=key)
    data = path.read_bytes()
    parts = range(0, 65, 1 if FULL else 8)
    for part in parts:
        cut = ends[0] + (ends[1] - ends[0]) * part // 64
        path.write_bytes(data[:cut])
        store = RowStore(backend="torch")
        reader = DeltaReader(store, FileSource(path, key=key))
        assert reader.poll() == (2 if part == 64 else 1)
        table, _ = written(path, versions=1, key=key)
        reader.poll()
        assert_served(store, {"user": table})
    assert caplog.text.count("of an unfinished version") == len(parts) - 2


@pytest.mark.parametrize("zeros", [1, 64, 5000])
def test_room_that_a_crash_left_unwritten_is_cut(tmp_path, key, zeros):
    path = tmp_path / "rows"
    _, ends = written(path, versions=2, key=key)
    path.write_bytes(path.read_bytes()[: ends[1]] + bytes(zeros))
    with closing(FileSink(path, key=key)) as sink:
        assert sink.holds()[1] == 2
    assert path.stat().st_size == ends[1]
    path.write_bytes(path.read_bytes() + bytes(zeros) + b"something")
    with pytest.raises(PacketError, match=f"byte {ends[1]}: .* last whole version before it ends at byte {ends[1]}"):
        FileSink(path, key=key)


@pytest.mark.parametrize("change", ["remove", "replace", "cut"])
def test_a_sink_notices_what_happened_to_its_file(tmp_path, change):
    path = tmp_path / "rows"
    table = HashTable([4], 64, name="user", backend="torch")
    with DeltaWriter({"user": table}) as writer, closing(FileSink(path)) as sink:
        writer.publish(sink)
        if change == "cut":
            os.truncate(path, 64)
        else:
            path.unlink()
        if change == "replace":
            path.write_bytes(b"")
        with pytest.raises(PacketError, match="was removed, replaced or cut"):
            writer.publish(sink)


def test_an_interrupted_or_failed_send_leaves_whole_versions(tmp_path, monkeypatch, key):
    """At each of a send's calls to the system; and the next version follows."""
    path, done = tmp_path / "rows", False
    table = HashTable([4], 64, name="user", backend="torch")
    store = RowStore(backend="torch")
    reader = DeltaReader(store, FileSource(path, key=key))
    with DeltaWriter({"user": table}) as writer, closing(FileSink(path, key=key)) as sink:
        writer.publish(sink)
        for at in range(20):
            table(torch.arange(3) + at)
            for failure in (OSError(28, "No space left on device"), KeyboardInterrupt):
                with monkeypatch.context() as failing:
                    reached = fail_at(failing, at, failure)
                    try:
                        writer.publish(sink)
                    except (OSError, KeyboardInterrupt):
                        assert reached
                    done = not reached
                assert reader.poll() in (writer.version, writer.version - 1, writer.version - 2)
                writer.publish(sink)
                assert reader.poll() == writer.version
                assert_served(store, {"user": table})
            if done:
                return
    raise AssertionError("a send makes fewer calls than that")


def fail_at(monkeypatch, at, failure):
    """The at-th write or sync raises, or is interrupted by a signal; half of what was to be written is."""
    count, reached = [0], []

    def failing(name, real):
        def call(handle, data=b"", *place):
            count[0] += 1
            if count[0] != at + 1:
                return real(handle, data, *place) if name == "pwrite" else real(handle)
            reached.append(name)
            if name == "pwrite":
                real(handle, data[: len(data) // 2], *place)
            if failure is KeyboardInterrupt:
                signal.raise_signal(signal.SIGINT)
                return len(data) // 2 if name == "pwrite" else None
            raise failure

        return call

    for name in ("pwrite", "fsync"):
        monkeypatch.setattr(f"os.{name}", failing(name, getattr(os, name)))
    return reached
