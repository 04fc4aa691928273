"""python -m tests.serving.hostile_runs small|PLACE: each hostile stream to a reader of its own, with its memory counted.

Prints a line of JSON a run: what was raised, how many bytes were sent, by how many the process grew at its peak, whether
what was served is as before, and whether a writer that means well went on.
"""

import gc
import json
import os
import select
import socket
import sys
import tempfile
import threading
from contextlib import closing, suppress
from itertools import product
from pathlib import Path

import torch

from recis_core.backends.errors import PacketError
from recis_core.exchange.stream import DeltaReader, DeltaWriter, FileSource, RowStore, SocketSink, SocketSource
from recis_core.nn import HashTable
from recis_core.optim import SparseSGD
from tests.serving.hostile import CASES, SERVED, Place
from tests.serving.served import MemorySink

PLACES = ("nothing served", "another stream", "a snapshot", "a change")
ROADS = ("file", "socket")
FULL_SIZE = ("nothing served", "socket")
FEW = (
    "a_wide_table_without_rows", "three_thousand_tables", "empty_packets", "packets_of_one_row", "rows_of_one_bit",
    "wide_rows_of_one_bit", "rows_of_four_bits", "erased_ids_without_end", "a_packet_repeated_under_its_number",
    "a_packet_repeated_under_the_next_number", "ids_written_and_erased", "the_tables_without_rows",
    "a_version_of_long_ago", "rows_that_contradict_themselves", "headers_that_are_bombs", "another_protocol",
)  # fmt: skip
SECONDS, GREETING = 60.0, 48


def main(size):
    torch.set_num_threads(1)
    tables = {name: HashTable([dim], 64, name=name, backend="torch") for name, (dim, _) in SERVED.items()}
    SparseSGD(tables, lr=0.1)
    for name, (_, rows) in SERVED.items():
        tables[name](torch.arange(rows))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hostile"
        run("a_commit_alone", "a change", "socket", tables, path, True)  # what the first run loads counts for none
        for name, place, road in chosen(size):
            small = size == "small" or (place, road) != FULL_SIZE
            print(json.dumps(run(name, place, road, tables, path, small)), flush=True)


def chosen(size):
    """Each case at a place, on either road; in a small run some of them once, places and roads in turn."""
    if size in PLACES:
        return product(CASES, [size], ROADS)
    return [(name, PLACES[i % 4], ROADS[i // 4 % 2]) for i, name in enumerate(CASES) if name in FEW]


def run(name, place, road, tables, path, small):
    store, frames = RowStore(backend="torch"), MemorySink()
    with DeltaWriter(tables) as writer:
        writer.publish(frames)
        if place != "nothing served":
            for frame in frames.versions[0]:
                store.apply(frame)
        sent = write(path, CASES[name](at(place, writer.stream, small)))
        before = state_of(store)
        base = reset_peak()
        if road == "file":
            errors, grown = from_file(DeltaReader(store, FileSource(path))), peak()
        else:
            with closing(SocketSource()) as source:
                errors, grown = from_socket(DeltaReader(store, source), source, path)
        same = same_state(before, state_of(store))
        goes_on = place == "nothing served" or went_on(writer, tables, store)
    return {
        "case": name, "place": place, "road": road, "errors": errors, "sent": sent, "grown": grown - base,
        "same": same or place == "nothing served", "goes_on": goes_on,
    }  # fmt: skip


def at(place, stream, small):
    base, version = {"a change": (1, 2), "a snapshot": (0, 2)}.get(place, (0, 1))
    return Place(stream if place in ("a change", "a snapshot") else os.urandom(16), base, version, small)


def write(path, frames):
    with path.open("wb") as file:
        for frame in frames:
            file.write(frame)
    return path.stat().st_size


def state_of(store):
    return store.position(), {
        name: (store.ids(name), store.lookup(name, torch.arange(-5, 3000))) for name in store.tables
    }  # fmt: skip


def same_state(left, right):
    return left[0] == right[0] and left[1].keys() == right[1].keys() and all(
        torch.equal(a, b) for name in left[1] for a, b in zip(left[1][name], right[1][name], strict=True)
    )  # fmt: skip


def from_file(reader):
    return polled(reader, lambda: False)


def polled(reader, busy):
    """What polls raised, until nothing comes."""
    errors, idle = [], 3
    while idle:
        idle = 3 if busy() else idle - 1
        try:
            reader.poll(0.01)
        except PacketError as error:
            errors.append(f"{type(error).__name__}: {error}"[:160])
    return errors[:10]


def from_socket(reader, source, path):
    sent = threading.Event()
    sending = threading.Thread(target=send, args=(source.port, path, sent))
    sending.start()
    errors = polled(reader, lambda: not sent.is_set() or has_more(source))
    grown = peak()
    source.refuse()
    source.close()
    sending.join(SECONDS)
    return errors, grown


def has_more(source):
    return source._peer is not None and bool(select.select([source._peer], [], [], 0)[0])


def send(port, path, sent):
    """All of it; then wait to be hung up on, or what lies unread might be lost."""
    try:
        with (
            suppress(OSError),
            closing(socket.create_connection(("127.0.0.1", port), SECONDS)) as peer,
            path.open("rb") as f,
        ):
            peer.recv(GREETING, socket.MSG_WAITALL)
            while chunk := f.read(1 << 16):
                peer.sendall(chunk)
            sent.set()
            peer.recv(1)
    finally:
        sent.set()


def went_on(writer, tables, store):
    """A change that means well: served, over a connection of its own."""
    tables["user"].insert(torch.tensor([3, 5000]), torch.full((2, 8), float(writer.version)))
    with closing(SocketSource()) as source, closing(SocketSink(source.port, timeout=SECONDS)) as sink:
        reader = DeltaReader(store, source)
        publishing = threading.Thread(target=writer.publish, args=(sink,))
        publishing.start()
        with suppress(TimeoutError):
            while publishing.is_alive():
                reader.poll(0.02)
            reader.wait_for(writer.version, SECONDS)
        publishing.join(SECONDS)
    trained = {name: table.snapshot() for name, table in tables.items()}
    return store.position() == (writer.stream, writer.version) and all(
        torch.equal(store.lookup(name, rows.ids), rows.weights) for name, rows in trained.items()
    )


def reset_peak():
    """Resident bytes now; the peak is counted from here."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def peak():
    return status("VmHWM")


def status(field):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) << 10


if __name__ == "__main__":
    main(sys.argv[1])
