"""Which rows a version holds: those that came, went or changed since the last, on every backend."""

import pytest
import torch

from recis_core.backends.errors import RecisError, StreamGap
from recis_core.exchange import decode
from recis_core.exchange.stream import DeltaWriter, RowStore
from recis_core.nn import HashTable
from recis_core.optim import SparseSGD
from tests.serving.served import MemorySink, assert_served

IDS = torch.tensor([5, -7, 2**53 + 1, 0])


def table_of(backend, name="user"):
    table = HashTable([4], 64, name=name, backend=backend)
    return table, SparseSGD({name: table}, lr=0.5)


def serve(store, sink, start=0):
    """Apply a sink's versions from `start` on."""
    for frames in sink.versions[start:]:
        for frame in frames:
            store.apply(decode(frame))


def ids_of(frames):
    return sorted(i for frame in frames for i in decode(frame).ids.tolist())


def test_versions_hold_what_changed_and_add_up_to_the_table(backend):
    table, optimizer = table_of(backend)
    sink, store = MemorySink(), RowStore()
    with DeltaWriter({"user": table}) as writer:
        table(IDS).sum().backward()
        optimizer.step()
        writer.publish(sink)
        table(torch.tensor([5, 99, 5])).sum().backward()
        optimizer.step()
        writer.publish(sink)
        table.physical.erase(torch.tensor([-7, 123]), table.ordinal)
        table.insert(torch.tensor([1, 5]), torch.ones(2, 4))
        writer.publish(sink)
        writer.publish(sink)
    assert [ids_of(frames) for frames in sink.versions] == [sorted(IDS.tolist()), [5, 99], [1, 5], []]
    assert decode(sink.versions[2][0]).erased.tolist() == [-7, 123]
    serve(store, sink)
    assert store.version == 4
    assert_served(store, {"user": table})


def test_rows_that_were_only_looked_up_are_served():
    table, _ = table_of("numba")
    sink, store = MemorySink(), RowStore()
    with DeltaWriter({"user": table}) as writer:
        writer.publish(sink)
        table(IDS)
        writer.publish(sink)
        table.eval()
        table(torch.tensor([1000]))
        writer.publish(sink)
    serve(store, sink)
    assert len(store.ids("user")) == 4
    assert ids_of(sink.versions[2]) == []
    assert_served(store, {"user": table})


def test_a_backward_after_the_publish_is_in_the_next_version():
    table, optimizer = table_of("numba")
    sink, store = MemorySink(), RowStore()
    with DeltaWriter({"user": table}) as writer:
        out = table(IDS)
        writer.publish(sink)
        optimizer.zero_grad()
        out.sum().backward()
        writer.publish(sink)
        optimizer.step()
        writer.publish(sink)
    assert [ids_of(frames) for frames in sink.versions[1:]] == [[], sorted(IDS.tolist())]
    serve(store, sink)
    assert_served(store, {"user": table})


def test_a_batch_written_again_by_its_owner_does_not_change_what_was_noted():
    table, optimizer = table_of("numba")
    sink = MemorySink()
    with DeltaWriter({"user": table}) as writer:
        writer.publish(sink)
        ids = IDS.clone()
        table(ids).sum().backward()
        ids.zero_()
        optimizer.step()
        writer.publish(sink)
    assert ids_of(sink.versions[1]) == sorted(IDS.tolist())


def test_many_ids_are_compacted_and_none_is_lost(monkeypatch):
    monkeypatch.setattr("recis_core.table.changed_ids.COMPACT_AT", 10)
    table, _ = table_of("numba")
    sink, store = MemorySink(), RowStore()
    with DeltaWriter({"user": table}) as writer:
        writer.publish(sink)
        for start in range(0, 60, 7):
            table(torch.arange(start, start + 20))
        writer.publish(sink)
    assert ids_of(sink.versions[1]) == list(range(76))
    serve(store, sink)
    assert_served(store, {"user": table})


def test_large_tables_go_in_several_packets(monkeypatch):
    monkeypatch.setattr("recis_core.serving.delta_writer.PACKET_BYTES", 64)
    table, _ = table_of("numba")
    sink, store = MemorySink(), RowStore()
    with DeltaWriter({"user": table}) as writer:
        table(torch.arange(10))
        writer.publish(sink)
        table(torch.arange(5, 16))
        writer.publish(sink)
    assert [len(frames) for frames in sink.versions] == [3 + 1, 3 + 1]
    serve(store, sink)
    assert_served(store, {"user": table})


def test_a_sink_that_missed_a_version_gets_all_rows():
    table, _ = table_of("numba")
    good, bad, stores = MemorySink(), MemorySink(), [RowStore(), RowStore()]
    with DeltaWriter({"user": table}) as writer:
        writer.publish(good, bad)
        table(IDS)
        bad.missing = True
        with pytest.raises(OSError, match="no space"):
            writer.publish(bad, good)
        table(IDS + 1000)
        assert writer.publish(good, bad) == 3
        table(IDS + 2000)
        writer.publish(good, bad)
    assert [decode(v[-1]).header.base for v in good.versions] == [0, 1, 2, 3]
    assert [decode(v[-1]).header.base for v in bad.versions] == [0, 0, 3]
    for sink, store in zip((good, bad), stores, strict=True):
        serve(store, sink)
        assert_served(store, {"user": table})


def test_bfloat16_tables_are_served_as_they_are():
    table = HashTable([4], 64, torch.bfloat16, name="user", backend="numba")
    sink, store = MemorySink(), RowStore()
    with DeltaWriter({"user": table}) as writer:
        table(IDS)
        writer.publish(sink)
        table(IDS + 1)
        writer.publish(sink)
    serve(store, sink)
    assert_served(store, {"user": table})


def test_cleared_loaded_and_erased_tables_are_served_as_they_are(backend):
    table, optimizer = table_of(backend)
    other, _ = table_of(backend)
    other(IDS + 7)
    sink, store = MemorySink(), RowStore()
    with DeltaWriter({"user": table}) as writer:
        for change in (
            lambda: table(IDS),
            table.clear,
            lambda: table.load_state_dict(other.state_dict()),
            lambda: table.physical.erase(IDS[:2] + 7, table.ordinal),
            lambda: table.load_state_dict(other.state_dict()),
        ):
            change()
            writer.publish(sink)
            serve(store, sink, start=writer.version - 1)
            assert_served(store, {"user": table})


def test_a_state_in_a_tables_place_and_ids_that_could_not_be_noted_mean_all_rows(monkeypatch):
    table, _ = table_of("torch")
    sink, store = MemorySink(), RowStore()

    def no_memory(self):
        raise MemoryError

    with DeltaWriter({"user": table}) as writer:
        table(IDS)
        writer.publish(sink)
        table.physical.replacements += 1
        writer.publish(sink)
        table(IDS + 1)
        writer.publish(sink)
        with monkeypatch.context() as short:
            short.setattr(torch.Tensor, "clone", no_memory)
            writer._changed[table.physical]._note(IDS, IDS)
        writer.publish(sink)
        writer.publish(sink)
    assert [decode(frames[-1]).header.base for frames in sink.versions] == [0, 0, 2, 0, 4]
    serve(store, sink)
    assert_served(store, {"user": table})


def test_a_closed_writer_watches_no_more():
    table, _ = table_of("numba")
    writer = DeltaWriter({"user": table})
    writer.close()
    writer.close()
    assert table.physical.observers == []
    with pytest.raises(RecisError, match="closed"):
        writer.publish(MemorySink())


def test_arguments_are_checked():
    table, _ = table_of("numba")
    with pytest.raises(TypeError, match="must be a dict"):
        DeltaWriter({})
    with pytest.raises(ValueError, match="codec must be one of fp32"):
        DeltaWriter({"user": table}, codec="fp31")
    with pytest.raises(ValueError, match="codec must name each of user"):
        DeltaWriter({"user": table}, codec={"item": "fp32"})
    with pytest.raises(ValueError, match="codec must be one of raw"):
        DeltaWriter({"user": table}, id_codec="zip")
    assert table.physical.observers == []


def test_a_gap_is_refused_and_a_snapshot_mends_it():
    table, _ = table_of("numba")
    sink, store = MemorySink(), RowStore()
    with DeltaWriter({"user": table}) as writer:
        for shift in range(4):
            table(IDS + shift)
            writer.publish(sink, snapshot=shift == 3)
    serve(store, sink, start=3)  # a snapshot suits a fresh store
    other = RowStore()
    for frame in sink.versions[0]:
        other.apply(decode(frame))
    for frame in sink.versions[2]:
        with pytest.raises(StreamGap):
            other.apply(decode(frame))
    assert other.version == 1
    serve(other, sink, start=3)
    assert_served(other, {"user": table})
    with pytest.raises(StreamGap, match="builds on 0; this store is at 4"):
        other.apply(decode(sink.versions[0][0]))
