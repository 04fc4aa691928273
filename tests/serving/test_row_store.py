"""Versions applied whole, in order, or not at all."""

import itertools
import threading

import pytest
import torch

from recis_core.backends.errors import PacketError, StreamGap
from recis_core.exchange import decode, encode
from recis_core.exchange.stream import RowStore
from recis_core.nn import EmbeddingOption, HashTable
from recis_core.packets.packet import encode_commit
from recis_core.serving.served_table import ServedTable

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


def test_an_unfinished_version_gives_way_to_another():
    store = filled()
    store.apply(packet("a", [1], 7, 2, 0))
    store.apply(packet("a", [1], 8, 3, 0, base=1))
    store.apply(commit(3, 1, base=1))
    assert store.lookup("a", torch.tensor([1]))[0, 0] == 8


def test_a_packet_repeated_inside_a_version_is_refused():
    """With its own number, with the next one, and as ids that came in another packet."""
    store = filled()
    store.apply(packet("a", [1], 7, 2, 0))
    with pytest.raises(StreamGap, match="wanted packet 1 of the version begun; got packet 0"):
        store.apply(packet("a", [1], 7, 2, 0))
    for base, version in ((1, 2), (0, 3)):
        store.apply(packet("a", [1, 4, 5], 7, version, 0, base=base))
        store.apply(packet("b", [1], 7, version, 1, base=base))
        store.apply(packet("a", [5, 1], 7, version, 2, base=base))
        with pytest.raises(PacketError, match="'a' must be distinct within a version; 2 come twice"):
            store.apply(commit(version, 3, base=base))
    store.apply(packet("a", [1], 7, 2, 0))
    store.apply(packet("a", [], 7, 2, 1, erased=[1]))
    with pytest.raises(PacketError, match="erased twice in a version, or erased and written"):
        store.apply(commit(2, 2))
    assert store.lookup("a", torch.tensor([1, 2])).tolist() == [[1] * 3] * 2


OTHER, THIRD = b"another stream..", b"a third stream.."


def snapshot(store, stream, tables, value=2.0, version=1):
    for sequence, (name, (rows, dim)) in enumerate(tables.items()):
        store.apply(packet(name, list(range(rows)), value, version, sequence, base=0, dim=dim, stream=stream))
    return store.apply(commit(version, len(tables), base=0, stream=stream))


def test_another_streams_snapshot_replaces_all_tables():
    store = filled()
    snapshot(store, OTHER, {"b": (4, 3), "a": (1, 3)})
    assert store.position() == (OTHER, 1)
    assert store.ids("a").tolist() == [0]


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"c": (1, 1 << 20)}, "has a table 'c' that is not expected; there are a, b"),
        ({"a": (2, 4), "b": (1, 3)}, "table 'a' has dim 3; got rows of 4"),
        ({"a": (3, 3)}, "a snapshot, lacks tables b; it has a"),
        ({"a": (0, 3), "b": (0, 3)}, "of another stream has 0 rows, where 3 are served"),
        ({}, "lacks tables a, b; it has none"),
    ],
)
def test_an_implausible_snapshot_is_refused_until_it_is_expected(tables, message):
    store = filled()
    with pytest.raises(PacketError, match=message):
        snapshot(store, OTHER, tables)
    assert store.position() == (STREAM, 1)
    assert store.lookup("a", torch.tensor([1, 2])).tolist() == [[1] * 3] * 2
    if max((dim for _, dim in tables.values()), default=1) <= 1 << 16:
        store.expect(None)
        store.apply(packet("a", [1], 5, 2, 0))
        assert store.apply(commit(2, 1)) == 2  # the stream that is served goes on meanwhile
        snapshot(store, OTHER, tables)
        assert store.tables == {name: dim for name, (_, dim) in tables.items()}


def test_a_stream_that_gave_way_does_not_come_back():
    store, tables = filled(), {"a": (2, 3), "b": (2, 3)}
    snapshot(store, OTHER, tables)
    for stream in (STREAM, OTHER):
        with pytest.raises(StreamGap, match="gave way to|this store is at 1"):
            snapshot(store, stream, tables, version=9 if stream == STREAM else 1)
    snapshot(store, THIRD, tables)
    with pytest.raises(StreamGap, match="its packets are old, or two writers take turns"):
        snapshot(store, OTHER, tables, version=9)
    store.expect(store.tables)
    assert snapshot(store, OTHER, tables, version=9) == 9


def test_snapshots_have_the_tables_that_were_asked_for():
    store = RowStore(tables={"a": 3, "b": 2})
    for tables in ({"a": (1, 3)}, {"a": (1, 3), "b": (1, 3)}, {"a": (1, 3), "b": (1, 2), "c": (1, 1)}):
        with pytest.raises(PacketError, match="lacks tables b|has dim 2; got rows of 3|'c' that is not expected"):
            snapshot(store, STREAM, tables)
    assert snapshot(store, STREAM, {"a": (1, 3), "b": (0, 2)}) == 1


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


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"max_pending_bytes": 1000}, "takes more than max_pending_bytes = 1000"),
        ({"max_packets": 2}, "more than max_packets = 2"),
        ({"max_tables": 2}, "names more than max_tables = 2 tables"),
        ({"max_dim": 2}, "table 'a' has 3 columns; max_dim is 2"),
        ({"max_rows": 3}, "makes more than max_rows = 3 rows"),
        ({"max_bytes": 40_000}, "the rows of version 1 would take .* bytes; max_bytes is 40000"),
    ],
)
def test_what_a_reader_holds_is_bounded(bounds, message):
    store = RowStore(**bounds)
    with pytest.raises(PacketError, match=message):
        snapshot(store, STREAM, {"a": (2, 3), "b": (2, 3), "c": (2, 3)})
    assert (store.version, store.tables) == (0, {})


def test_what_is_served_counts_with_what_comes():
    store = RowStore(max_rows=5)
    snapshot(store, STREAM, {"a": (4, 3)})
    store.apply(packet("a", [3, 4], 1, 2, 0))
    store.apply(commit(2, 1))
    with pytest.raises(PacketError, match="makes more than max_rows = 5"):
        store.apply(packet("a", [3, 5], 1, 3, 0))
    store.apply(packet("a", [9], 1, 3, 0, erased=[0, 77]))
    assert store.apply(commit(3, 1)) == 3
    assert store.ids("a").tolist() == [1, 2, 3, 4, 9]


@pytest.mark.parametrize("bounds", [{"max_dim": 0}, {"max_rows": 1.5}, {"max_tables": None}, {"least_share": 2}])
def test_bounds_are_checked(bounds):
    with pytest.raises(ValueError, match=f"{next(iter(bounds))} must"):
        RowStore(**bounds)


def state_of(store):
    return store.position(), {name: (store.ids(name).tolist(), store.lookup(name, LOOKED_UP)) for name in store.tables}


LOOKED_UP = torch.arange(-2, 30)


def same_state(left, right):
    return left[0] == right[0] and left[1].keys() == right[1].keys() and all(
        left[1][name][0] == right[1][name][0] and torch.equal(left[1][name][1], right[1][name][1]) for name in left[1]
    )  # fmt: skip


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt, OSError(12, "Cannot allocate memory")])
@pytest.mark.parametrize("base", [0, 1])
def test_whatever_fails_in_a_commit_a_version_is_applied_whole_or_not(monkeypatch, backend, error, base):
    """Fails at each of the tables' calls in turn; then lookups see either version, and the next one follows."""
    for at in range(40):
        store = RowStore(backend=backend)
        snapshot(store, STREAM, {"a": (20, 3), "b": (4, 3)})
        before = state_of(store)
        store.apply(packet("a", [1, 25, 27], 5, 2, 0, base=base, erased=[2, 3, 99]))
        store.apply(packet("b", [1, 8], 6, 2, 1, base=base))
        with monkeypatch.context() as failing:
            reached = fail_at(failing, at, error)
            raised = None
            try:
                store.apply(commit(2, 2, base=base))
            except (PacketError, KeyboardInterrupt) as caught:
                raised = caught
        now = state_of(store)
        assert store.version == (2 if raised is None or now[0][1] == 2 else 1)
        if store.version == 1:
            assert raised is not None
            assert same_state(now, before)
            store.apply(packet("a", [1, 25, 27], 5, 2, 0, base=base, erased=[2, 3, 99]))
            store.apply(packet("b", [1, 8], 6, 2, 1, base=base))
            store.apply(commit(2, 2, base=base))
        check_second(store, base)
        store.apply(packet("a", [2], 9, 3, 0))
        store.apply(commit(3, 1))
        assert not store._served.changes
        assert store.lookup("a", torch.tensor([1, 2, 3, 25])).tolist() == [[5] * 3, [9] * 3, [0] * 3, [5] * 3]
        if not reached:
            return
    raise AssertionError("a commit makes fewer calls than that")


def fail_at(monkeypatch, at, error):
    """The at-th call of a served table's write, erase or find raises; the list is filled when it comes."""
    count, reached = [0], []

    def failing(name):
        real = getattr(ServedTable, name)

        def call(self, *arguments):
            count[0] += 1
            if count[0] == at + 1:
                reached.append(name)
                raise error
            return real(self, *arguments)

        return call

    for name in ("__init__", "write", "erase", "find", "__len__"):
        monkeypatch.setattr(ServedTable, name, failing(name))
    return reached


def check_second(store, base):
    assert store.lookup("a", torch.tensor([1, 25, 2])).tolist() == [[5] * 3, [5] * 3, [0] * 3]
    assert store.ids("b").tolist() == ([0, 1, 2, 3, 8] if base else [1, 8])
    assert len(store.ids("a")) == (20 if base else 3)


def test_a_change_that_is_not_yet_written_is_read(monkeypatch):
    """Of several unfinished writes the next commit writes all, or refuses the version and serves on."""
    store = filled()
    with monkeypatch.context() as failing:
        failing.setattr(ServedTable, "erase", lambda self, ids: 1 / 0)
        store.apply(packet("a", [1, 9], 5, 2, 0, erased=[2]))
        assert store.apply(commit(2, 1)) == 2
        seen = store.lookup("a", torch.tensor([[9, 2], [1, 9], [7, 1]]))
        assert seen[:, :, 0].tolist() == [[5, 0], [5, 5], [0, 5]]
        assert store.ids("a").tolist() == [1, 9]
        store.apply(packet("a", [1], 6, 3, 0))
        with pytest.raises(ZeroDivisionError):
            store.apply(commit(3, 1))
        assert store.lookup("a", torch.tensor([1, 2]))[:, 0].tolist() == [5, 0]
    store.apply(packet("a", [1], 6, 3, 0))
    assert store.apply(commit(3, 1)) == 3
    assert store.ids("a").tolist() == [1, 9]
    assert store.lookup("a", torch.tensor([1, 2, 9]))[:, 0].tolist() == [6, 0, 5]


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
