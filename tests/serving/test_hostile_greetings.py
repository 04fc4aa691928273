"""Peers without the key, and readers that are none: the stream goes on, and no call waits longer than it may."""

import os
import socket
import struct
import threading
import time
from contextlib import ExitStack, closing, contextmanager, suppress

import pytest
import torch

from recis_core.backends.errors import PacketError
from recis_core.exchange.stream import DeltaReader, DeltaWriter, RowStore, SocketSink, SocketSource
from recis_core.serving.greeting import ANSWER, ANSWER_BYTES, GREETING_BYTES, WELCOME_BYTES, ReadersGreeting
from tests.serving.served import assert_served
from tests.serving.test_stream_socket import KEY, SECONDS, frames_of_one_version, polling, small_table

OTHER_KEY = b"another key of that length"
LIMIT = 10.0  # where nothing bounded the wait it would be 43 s, or for ever


def connected(port):
    peer = socket.create_connection(("127.0.0.1", port), SECONDS)
    peer.recv(GREETING_BYTES, socket.MSG_WAITALL)
    return peer


def silent(port, stack, recorded):
    for _ in range(100):
        stack.enter_context(closing(socket.create_connection(("127.0.0.1", port), SECONDS)))


def slow(port, stack, recorded):
    peer = stack.enter_context(closing(connected(port)))
    for byte in ANSWER:
        peer.sendall(bytes([byte]))
        time.sleep(0.01)


def gone_at_once(port, stack, recorded):
    for at in range(100):
        peer = socket.create_connection(("127.0.0.1", port), SECONDS)
        if at % 2:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # the close is a reset
        peer.close()


def said(port, stack, *answers):
    for answer in answers:
        with suppress(OSError):
            stack.enter_context(closing(connected(port))).sendall(answer)


def another_key(port, stack, recorded):
    for key in (OTHER_KEY, None):
        with closing(SocketSink(port, key=key, timeout=SECONDS)) as sink, pytest.raises((PacketError, OSError)):
            sink.holds()


def answer_of_another_connection(port, stack, recorded):
    said(port, stack, recorded, recorded)


def answer_without_an_hmac(port, stack, recorded):
    said(port, stack, ANSWER + bytes(ANSWER_BYTES - 8), ANSWER + os.urandom(ANSWER_BYTES - 8))


def greeting_given_back(port, stack, recorded):
    peer = stack.enter_context(closing(socket.create_connection(("127.0.0.1", port), SECONDS)))
    greeting = peer.recv(GREETING_BYTES, socket.MSG_WAITALL)
    peer.sendall(greeting)
    said(port, stack, ANSWER + greeting[8:])


def frames_without_an_answer(port, stack, recorded):
    said(port, stack, b"".join(frames_of_one_version()[1]))


def another_protocol(port, stack, recorded):
    said(port, stack, b"GET / HTTP/1.1\r\n\r\n", bytes(1 << 22), os.urandom(1 << 22))


STRANGERS = [
    silent, slow, gone_at_once, another_key, answer_of_another_connection, answer_without_an_hmac, greeting_given_back,
    frames_without_an_answer, another_protocol,
]  # fmt: skip


def recorded_answer(source, reader):
    """What a writer with the key said on a connection that is closed now."""
    seen, real = [], ReadersGreeting.take

    def take(greeting, came, has):
        if real(greeting, came, has):
            seen.append(came[:ANSWER_BYTES])
            return True
        return False

    ReadersGreeting.take = take
    try:
        with closing(SocketSink(source.port, key=KEY)) as sink, polling(reader):
            sink.holds()
    finally:
        ReadersGreeting.take = real
    return seen[0]


@pytest.mark.parametrize("strangers", STRANGERS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("first", [False, True], ids=["after the writer", "before the writer"])
def test_peers_without_the_key_leave_a_keyed_stream_alone(strangers, first):
    table, store = small_table(), RowStore(backend="torch")
    with closing(SocketSource(key=KEY, max_greetings=16)) as source, DeltaWriter({"user": table}) as writer:
        reader = DeltaReader(store, source)
        recorded = recorded_answer(source, reader)
        with closing(SocketSink(source.port, key=KEY)) as sink, polling(reader), ExitStack() as stack:
            if first:
                strangers(source.port, stack, recorded)
            for version in range(3):
                table(torch.arange(4) + version)
                writer.publish(sink)
                if version == 0:
                    strangers(source.port, stack, recorded)
            assert source.writer == 2  # the recorded one, and this
            assert len(source._guests) <= 16
            wait_until(lambda: store.version == 3)
    assert_served(store, {"user": table})


def wait_until(condition):
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_guests_are_few_and_go_when_their_time_is_up():
    with closing(SocketSource(key=KEY, greeting_seconds=0.2, max_greetings=8)) as source, ExitStack() as stack:
        reader = DeltaReader(RowStore(backend="torch"), source)
        peers = [stack.enter_context(closing(socket.create_connection(("127.0.0.1", source.port)))) for _ in range(40)]
        end = time.monotonic() + SECONDS
        while source._guests or time.monotonic() < end - SECONDS + 0.5:
            reader.poll(0.02)
            assert len(source._guests) <= 8
            assert time.monotonic() < end
        for peer in peers:
            peer.settimeout(SECONDS)
            with suppress(ConnectionResetError):
                while peer.recv(100):
                    pass


def test_a_writer_with_the_key_takes_the_place_of_one_that_is_half_gone():
    """The first one's host went down: nothing says so, and what came of its version is dropped."""
    table, store = small_table(), RowStore(backend="torch")
    with closing(SocketSource(key=KEY)) as source, DeltaWriter({"user": table}) as writer:
        reader = DeltaReader(store, source)
        table(torch.arange(4))
        with closing(SocketSink(source.port, key=KEY)) as gone, polling(reader):
            gone.holds()
            first = frames_of_one_version()[1][0]
            gone._socket.sendall(first + gone._seal.tag(first))
            with closing(SocketSink(source.port, key=KEY)) as sink:
                writer.publish(sink)
                wait_until(lambda: store.version == 1)
    assert_served(store, {"user": table})


def test_a_poll_ends_while_a_writer_never_pauses():
    _, frames = frames_of_one_version()
    stop = threading.Event()

    def flood(port):
        with suppress(OSError), closing(connected(port)) as peer:
            while not stop.is_set():
                peer.sendall(b"".join(frames) * 20)

    with closing(SocketSource()) as source:
        flooding = threading.Thread(target=flood, args=(source.port,))
        flooding.start()
        start = time.monotonic()
        for timeout in (0.0, 0.05, 0.2):
            list(source.frames(timeout, lambda: (b"", 0)))
        assert time.monotonic() - start < LIMIT
        stop.set()
        source.refuse()
    flooding.join(SECONDS)


@contextmanager
def listening(serve):
    """The port where each connection is served by `serve`, until the block ends."""
    stop = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)

    def accepting():
        while not stop.is_set():
            with suppress(OSError), closing(listener.accept()[0]) as peer:
                peer.settimeout(SECONDS)
                serve(peer, stop)

    thread = threading.Thread(target=accepting)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        stop.set()
        thread.join(SECONDS)
        listener.close()


def greets_slowly(peer, stop):
    for byte in ReadersGreeting(None, (b"", 0)).greeting:
        peer.sendall(bytes([byte]))
        stop.wait(1.0)


def welcomes_slowly(peer, stop):
    peer.sendall(ReadersGreeting(None, (b"", 0)).greeting)
    peer.recv(ANSWER_BYTES, socket.MSG_WAITALL)
    for byte in b"RECISWLC".ljust(WELCOME_BYTES, b"\0"):
        peer.sendall(bytes([byte]))
        stop.wait(1.0)


def says_nothing(peer, stop):
    stop.wait(SECONDS)


def hangs_up(peer, stop):
    peer.sendall(b"RECISGRT")


def speaks_otherwise(peer, stop):
    peer.sendall(b"SSH-2.0-OpenSSH_9.6\r\n".ljust(4096, b"."))
    stop.wait(SECONDS)


def has_no_key(peer, stop):
    peer.sendall(ReadersGreeting(None, (b"x" * 16, 7)).greeting)
    stop.wait(SECONDS)


def pretends_to_have_the_key(peer, stop):
    peer.sendall(ReadersGreeting(OTHER_KEY, (b"x" * 16, 7)).greeting)
    peer.recv(ANSWER_BYTES, socket.MSG_WAITALL)
    peer.sendall(struct.pack("<8s16sQ32s", b"RECISWLC", b"x" * 16, 7, os.urandom(32)))
    stop.wait(SECONDS)


@pytest.mark.parametrize(
    ("reader", "key", "error"),
    [
        (greets_slowly, None, TimeoutError),
        (welcomes_slowly, None, TimeoutError),
        (says_nothing, KEY, TimeoutError),
        (hangs_up, KEY, ConnectionError),
        (speaks_otherwise, KEY, PacketError),
        (has_no_key, KEY, PacketError),
        (pretends_to_have_the_key, KEY, PacketError),
        (pretends_to_have_the_key, None, PacketError),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)[:3]),
)
def test_a_sink_waits_no_longer_than_it_may_for_a_reader_that_is_none(reader, key, error):
    with listening(reader) as port, closing(SocketSink(port, key=key, timeout=0.3)) as sink:
        start = time.monotonic()
        with pytest.raises(error):
            sink.holds()
        assert time.monotonic() - start < LIMIT
        assert sink._socket is None


def reads_nothing(peer, stop):
    peer.sendall(ReadersGreeting(None, (b"", 0)).greeting)
    answer = peer.recv(ANSWER_BYTES, socket.MSG_WAITALL)
    peer.sendall(struct.pack("<8s16sQ32s", b"RECISWLC", bytes(16), 0, bytes(32)))
    assert answer
    stop.wait(SECONDS)


def reads_slowly(peer, stop):
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
    peer.sendall(ReadersGreeting(None, (b"", 0)).greeting)
    peer.recv(ANSWER_BYTES, socket.MSG_WAITALL)
    peer.sendall(struct.pack("<8s16sQ32s", b"RECISWLC", bytes(16), 0, bytes(32)))
    while not stop.wait(0.1):
        peer.recv(1)


@pytest.mark.parametrize("reader", [reads_nothing, reads_slowly])
def test_sending_a_version_waits_no_longer_than_it_may(reader):
    with listening(reader) as port, closing(SocketSink(port, timeout=0.3)) as sink:
        assert sink.holds() == (b"", 0)
        frame = b"".join(frames_of_one_version()[1]) * 2000
        start = time.monotonic()
        with pytest.raises(TimeoutError):
            sink.send(frame for _ in range(100))
        assert time.monotonic() - start < LIMIT
        with pytest.raises(ConnectionError, match="ask holds"):
            sink.send([])
