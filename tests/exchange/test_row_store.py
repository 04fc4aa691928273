"""Versions applied whole, in order, or not at all."""

import itertools
import threading

import pytest
import torch

from backends.errors import PacketError, StreamGap
from recis_core.exchange import decode, encode
from recis_core.exchange.packet import encode_commit
from recis_core.exchange.stream import RowStore
from recis_core.nn import EmbeddingOption, HashTable

STREAM = b"a stream's name."


def packet(table, ids, value, version, sequence, base=None, erased=(), dim=3, stream=STREAM):
    return decode(
        encode(
            table=table,
            ids=torch.tensor(ids, dtype=torch.int64),
            rows=torch.full((len(ids), dim), float(value)),
            erased=torch.tensor(erased, dtype=torch.int64),
            stream=stream,
            base=version - 1 if base is None else base,
            version=version,
            sequence=sequence,
        )
    )


def commit(version, sequence, base=None, stream=STREAM):
    place = {"stream": stream, "base": version - 1 if base is None else base}
    return decode(encode_commit(version=version, sequence=sequence, **place))


def filled():
    store = RowStore()
    for p in (packet("a", [1, 2], 1, 1, 0), packet("b", [1], 1, 1, 1), commit(1, 2)):
        store.apply(p)
    return store


def test_a_version_appears_in_all_tables_at_its_commit():
    store = filled()
    store.apply(packet("a", [1, 9], 5, 2, 0, erased=[2]))
    store.apply(packet("b", [1], 6, 2, 1))
    assert store.version == 1
    assert store.lookup("a", torch.tensor([1, 2, 9])).tolist() == [[1] * 3, [1] * 3, [0] * 3]
    assert store.apply(commit(2, 2)) == 2
    assert store.lookup("a", torch.tensor([[1, 2], [9, 1]])).tolist() == [[[5] * 3, [0] * 3], [[5] * 3, [5] * 3]]
    assert store.lookup("b", torch.tensor([1])).tolist() == [[6] * 3]
    assert store.ids("a").tolist() == [1, 9]


def test_every_loss_repetition_and_swap_of_a_version_is_a_gap_or_harmless():
    """Whatever subset and order of three versions' packets arrives, the store is at one of the versions, whole."""
    versions = [
        [packet("a", [1], v, v, 0), packet("b", [1], v, v, 1), commit(v, 2)] for v in (1, 2, 3)
    ]  # fmt: skip
    stream = [p for version in versions for p in version]
    for lost, twice in itertools.product(range(-1, 9), range(-1, 9)):
        store = RowStore()
        for i, p in enumerate(stream):
            for _ in range((i != lost) + (i == twice)):
                try:
                    store.apply(p)
                except StreamGap:
                    continue
        if store.version:
            for table in ("a", "b"):
                assert store.lookup(table, torch.tensor([1])).tolist() == [[store.version] * 3]
        assert store.version == 3 or (lost, twice) != (-1, -1)


def test_lookups_beside_an_applying_thread_see_whole_versions():
    store, seen, wrong = filled(), set(), []

    def look():
        while store.version < 300:
            rows = store.lookup_all({"a": torch.tensor([1, 2]), "b": torch.tensor([[1]])})
            values = {*rows["a"].flatten().tolist(), *rows["b"].flatten().tolist()}
            seen.update(values)
            if len(values) != 1:
                wrong.append(values)

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    for version in range(2, 301):
        store.apply(packet("a", [1, 2, -version], version, version, 0))
        store.apply(packet("b", [1], version, version, 1))
        store.apply(commit(version, 2))
    looking.join(60)
    assert not looking.is_alive()
    assert not wrong
    assert len(seen) > 1


def test_an_unfinished_version_gives_way_to_its_repetition():
    store = filled()
    store.apply(packet("a", [1], 7, 2, 0))
    store.apply(packet("a", [1], 8, 2, 0))
    store.apply(commit(2, 1))
    assert store.lookup("a", torch.tensor([1]))[0, 0] == 8


def test_another_streams_snapshot_replaces_all_tables():
    store, other = filled(), b"another stream.."
    store.apply(packet("c", [4], 2, 1, 0, stream=other))
    store.apply(commit(1, 1, stream=other))
    assert store.tables == {"c": 3}
    assert store.position() == (other, 1)
    with pytest.raises(KeyError, match="no table 'a'; at version 1 there are c"):
        store.lookup("a", torch.tensor([1]))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda: packet("a", [1, 1], 0, 2, 0), "must be distinct"),
        (lambda: packet("a", [1], 0, 2, 0, dim=2), "has dim 3; got rows of 2"),
        (lambda: packet("a", [1], 0, 1, 0, stream=b""), "belongs to no stream"),
        (lambda: packet("a", [1], 0, 3, 0), "builds on 2; this store is at 1"),
        (lambda: packet("a", [1], 0, 2, 1), "wanted packet 0"),
        (lambda: packet("a", [1], 0, 1, 0, base=0), "builds on 0"),
        (lambda: commit(2, 1), "wanted packet 0"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(bad, message):
    store = filled()
    with pytest.raises(PacketError, match=message):
        store.apply(bad())
    assert store.version == 1
    assert store.lookup("a", torch.tensor([1, 2])).tolist() == [[1] * 3] * 2
    store.apply(packet("a", [1], 2, 2, 0))
    assert store.apply(commit(2, 1)) == 2


def test_packets_that_wait_are_bounded():
    store = RowStore(max_pending_bytes=100)
    store.apply(packet("a", [1], 1, 1, 0))
    with pytest.raises(PacketError, match="max_pending_bytes = 100"):
        store.apply(packet("a", list(range(9)), 1, 1, 1))


def test_a_failure_while_rows_are_written_leaves_nothing_half_done(monkeypatch):
    store = filled()
    store.apply(packet("a", [1], 2, 2, 0))
    store.apply(packet("b", [1], 2, 2, 1))
    monkeypatch.setattr(store._tables["b"], "write", lambda ids, rows: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store.apply(commit(2, 2))
    assert store.position() == (b"", 0)
    assert store.tables == {}


def test_unknown_ids_read_as_the_model_reads_them():
    trained = HashTable([3], name="a", seed=7, unknown="initial", backend="torch").eval()
    options = {"a": EmbeddingOption(3, seed=7, unknown="initial")}
    store = RowStore(options)
    store.apply(packet("a", [1], 1, 1, 0))
    store.apply(packet("b", [1], 1, 1, 1))
    store.apply(commit(1, 2))
    ids = torch.tensor([4, -5, 2**60])
    assert torch.equal(store.lookup("a", ids), trained(ids))
    assert trained(ids).abs().min() > 0
    assert store.lookup("b", ids).tolist() == [[0] * 3] * 3
    with pytest.raises(PacketError, match="has dim 3; got rows of 2"):
        RowStore(options).apply(packet("a", [1], 1, 1, 0, dim=2))


def test_lookups_want_int64():
    with pytest.raises(TypeError, match=r"int64 tensor; got torch\.int32"):
        filled().lookup("a", torch.tensor([1], dtype=torch.int32))
    assert filled().lookup("a", torch.zeros(0, 2, dtype=torch.int64)).shape == (0, 2, 3)
