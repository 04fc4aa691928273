"""Streams over loopback TCP: partial reads, lost readers, strangers, forgers and frames too long."""

import socket
import threading
import time
from contextlib import closing, contextmanager, suppress

import pytest
import torch

from recis_core.backends.errors import PacketError, StreamGap
from recis_core.exchange.stream import DeltaReader, DeltaWriter, RowStore, SocketSink, SocketSource
from recis_core.nn import HashTable
from recis_core.serving.authentication import Seal
from tests.serving.served import MemorySink, assert_served

KEY = b"sixteen bytes or more"
GREETING = 48
SECONDS = 20.0


@contextmanager
def following(reader, version):
    """The reader, polling in a thread until it is at a version; what it raised is raised here."""
    raised = []

    def run():
        try:
            reader.wait_for(version, SECONDS)
        except (PacketError, TimeoutError) as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join(SECONDS + 5)
    assert not thread.is_alive()
    if raised:
        raise raised[0]


@contextmanager
def polling(reader):
    """The reader, polling in a thread while the block runs; what it raised is raised here."""
    raised, stop = [], threading.Event()

    def run():
        try:
            while not stop.is_set():
                reader.poll(0.02)
        except PacketError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(SECONDS)
    if raised:
        raise raised[0]


def small_table():
    return HashTable([4], 64, name="user", backend="torch")


def frames_of_one_version():
    sink, table = MemorySink(), small_table()
    with DeltaWriter({"user": table}) as writer:
        table(torch.arange(5))
        writer.publish(sink)
    return table, sink.versions[0]


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "sealed"])
def test_three_versions(key):
    table, store = small_table(), RowStore(backend="torch")
    with closing(SocketSource(key=key)) as source, DeltaWriter({"user": table}) as writer:
        assert source.port
        with closing(SocketSink(source.port, key=key)) as sink, following(DeltaReader(store, source), 3):
            for version in range(3):
                table(torch.arange(4) + version)
                writer.publish(sink)
            assert sink.holds() == (writer.stream, 3)
    assert_served(store, {"user": table})


def test_bytes_that_come_one_by_one():
    table, frames = frames_of_one_version()
    store = RowStore(backend="torch")
    with (
        closing(SocketSource()) as source,
        following(DeltaReader(store, source), 1),
        closing(socket.create_connection(("127.0.0.1", source.port), SECONDS)) as peer,
    ):
        assert peer.recv(GREETING, socket.MSG_WAITALL).startswith(b"RECISGRT")
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"".join(frames):
            peer.sendall(bytes([byte]))
    assert_served(store, {"user": table})


def test_a_reader_that_was_started_again_gets_a_snapshot():
    table = small_table()
    with DeltaWriter({"user": table}) as writer:
        first = SocketSource()
        table(torch.arange(4))
        with closing(SocketSink(first.port)) as sink:
            with following(DeltaReader(RowStore(backend="torch"), first), 1):
                writer.publish(sink)
            first.close()
            with pytest.raises(ConnectionRefusedError):
                writer.publish(sink)
            store = RowStore(backend="torch")
            with closing(SocketSource(first.port)) as second, following(DeltaReader(store, second), 3):
                table(torch.arange(6))
                assert writer.publish(sink) == 3
    assert_served(store, {"user": table})


def test_a_writer_that_connects_again_goes_on_from_what_the_reader_has():
    table, store = small_table(), RowStore(backend="torch")
    with closing(SocketSource()) as source, DeltaWriter({"user": table}) as writer:
        reader = DeltaReader(store, source)
        for version in (1, 2):
            table(torch.arange(3 * version))
            with closing(SocketSink(source.port)) as sink, following(reader, version):
                writer.publish(sink)
        with closing(SocketSink(source.port)) as sink, following(reader, 3):
            assert sink.holds() == (writer.stream, 2)
            writer.publish(sink)
    assert_served(store, {"user": table})


def test_a_connection_lost_in_the_middle_of_a_version_changes_nothing():
    _, frames = frames_of_one_version()
    store = RowStore(backend="torch")
    with closing(SocketSource()) as source:
        reader = DeltaReader(store, source)
        for part in (frames[0], frames[0][:-1], frames[0] + frames[1][:100]):
            with closing(socket.create_connection(("127.0.0.1", source.port), SECONDS)) as peer:
                peer.sendall(part)
            reader.poll(0.2)
            assert store.version == 0
        with closing(socket.create_connection(("127.0.0.1", source.port), SECONDS)) as peer:
            peer.sendall(b"".join(frames))
            assert reader.wait_for(1, SECONDS) == 1


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "a packet begins with"),
        (bytes(64), "a packet begins with"),
    ],
)
def test_a_stranger_is_refused_and_the_next_writer_is_served(sent, message):
    _, frames = frames_of_one_version()
    store = RowStore(backend="torch")
    with closing(SocketSource()) as source:
        reader = DeltaReader(store, source)
        with closing(socket.create_connection(("127.0.0.1", source.port), SECONDS)) as peer:
            peer.sendall(sent)
            with pytest.raises(PacketError, match=message):
                reader.poll(SECONDS)
        with closing(socket.create_connection(("127.0.0.1", source.port), SECONDS)) as peer:
            peer.sendall(b"".join(frames))
            assert reader.wait_for(1, SECONDS) == 1


def test_a_frame_past_the_bound_is_refused_before_it_is_read():
    _, frames = frames_of_one_version()
    with closing(SocketSource(max_frame_bytes=len(frames[0]) - 1)) as source:
        reader = DeltaReader(RowStore(backend="torch"), source)
        with closing(socket.create_connection(("127.0.0.1", source.port), SECONDS)) as peer:
            peer.sendall(frames[0][:64])
            with pytest.raises(PacketError, match=f"one of {len(frames[0])} was announced"):
                reader.poll(SECONDS)


def test_forged_and_replayed_frames_are_refused():
    """Behind a good answer, too, an intact packet needs this connection's HMAC."""
    _, frames = frames_of_one_version()
    with closing(SocketSource(key=KEY)) as source:
        store = RowStore(backend="torch")
        reader = DeltaReader(store, source)
        recorded = b"".join(frame + Seal(KEY, b"another connection").tag(frame) for frame in frames)
        plain = b"".join(frame + bytes(32) for frame in frames)
        for sent in (recorded, plain, b"".join(frames)):
            with closing(socket.create_connection(("127.0.0.1", source.port), SECONDS)) as peer:
                peer.sendall(sent)
                reader.poll(0.1)
                with suppress(ConnectionResetError):  # what was sent to it lies unread
                    assert peer.recv(2 * GREETING, socket.MSG_WAITALL).startswith(b"RECISGRK")
        for sent in (recorded, plain):
            with closing(SocketSink(source.port, key=KEY)) as sink:
                with polling(reader):
                    sink.holds()
                sink._socket.sendall(sent)
                with pytest.raises(PacketError, match="HMAC does not match"):
                    reader.poll(SECONDS)
        assert store.version == 0


def test_damage_on_the_way_makes_the_writer_send_a_snapshot():
    table, store = small_table(), RowStore(backend="torch")
    with closing(SocketSource()) as source, DeltaWriter({"user": table}) as writer:
        reader = DeltaReader(store, source)
        with closing(SocketSink(source.port)) as sink:
            with following(reader, 1):
                table(torch.arange(4))
                writer.publish(sink)
            writer.publish()  # to no sink: the reader misses it
            sink._holds = (writer.stream, writer.version)  # and the sink does not know
            writer.publish(sink)
            with pytest.raises(StreamGap):
                reader.poll(SECONDS)
            table(torch.arange(8))
            with following(reader, 4):
                writer.publish(sink)
    assert_served(store, {"user": table})


def test_a_sink_asks_who_listens():
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]

        def stranger(says):
            peer, _ = listener.accept()
            peer.sendall(says)
            peer.close()

        for says, error in ((b"SSH-2.0".ljust(48), PacketError), (b"RECISGRT", ConnectionError)):
            thread = threading.Thread(target=stranger, args=(says,))
            thread.start()
            with closing(SocketSink(port)) as sink, pytest.raises(error, match="greets"):
                sink.holds()
            thread.join(SECONDS)
        with closing(SocketSink(port, timeout=0.1)) as sink, pytest.raises(TimeoutError):
            sink.holds()
    with closing(SocketSink(1)) as sink, pytest.raises(ConnectionError, match="ask holds"):
        sink.send([])


def test_waiting_is_bounded_and_loopback_is_where_it_listens(caplog):
    with closing(SocketSource()) as source:
        reader = DeltaReader(RowStore(backend="torch"), source)
        start = time.monotonic()
        assert reader.poll() == 0
        assert reader.poll(0.1) == 0
        with pytest.raises(TimeoutError):
            reader.wait_for(1, 0.1)
        assert time.monotonic() - start < SECONDS
        assert source._listener.getsockname()[0] == "127.0.0.1"
    assert not caplog.records
    SocketSource(host="localhost", key=KEY).close()
    assert not caplog.records
    SocketSource(host="localhost").close()
    assert "without a key" in caplog.text
