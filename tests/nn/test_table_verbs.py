"""A table as a container of rows by id: len, in, lookup, erase, items, stats' rows, trainable.

Each is held against the snapshot of the whole table, and none may take one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from recis_core.errors import RecisError
from recis_core.nn import AdmitHook, CacheConfig, EmbeddingEngine, EmbeddingOption, HashTable, UniformInitializer
from recis_core.optim import SparseAdagrad, SparseSGD
from recis_core.table.table import Table

KINDS = ("torch", "numba", "jax", "host", "disk", "jax in tiers", "admission", "bfloat16")
ROOT = Path(__file__).parents[2]
IDS = torch.tensor([5, -7, 2**62, 0, 11, 12, 13, 14, 15, -(2**63)])


class Rig:
    """Tables "a" and "b" in one storage; "a" was trained."""

    def __init__(self, kind: str, folder: Path, lr: float = 1.0, **option: Any) -> None:
        disk = str(folder) if kind == "disk" else None
        cache = CacheConfig(device_rows=6, host_rows=4 if disk else None, disk=disk, policy="lru")
        backend = kind.split()[0] if kind.split()[0] in ("torch", "jax") else "numba"
        option = {"backend": backend, "initializer": UniformInitializer(-1, 1), "unknown": "initial"} | option
        option["cache"] = cache if kind in ("host", "disk", "jax in tiers") else None
        option["admit_hook"] = AdmitHook("Frequency", {"threshold": 1}) if kind == "admission" else None
        option["dtype"] = torch.bfloat16 if kind == "bfloat16" else torch.float32
        self.engine = EmbeddingEngine({name: EmbeddingOption(4, **option) for name in ("a", "b")})
        self.table, self.other = self.engine.table("a"), self.engine.table("b")
        self.optimizer = SparseAdagrad(self.engine.sparse_parameters(), lr=lr)
        for part in IDS.split(5):
            self.train(part)

    def train(self, ids: Tensor) -> None:
        self.loss(ids).backward()
        self.optimizer.step()

    def loss(self, ids: Tensor) -> Tensor:
        out = self.engine({"a": ids, "b": torch.tensor([5, 100, 101])})
        return out["a"].square().sum() + out["b"].sum()

    def rows(self) -> dict[int, Tensor]:
        return dict(zip(self.table.ids().tolist(), self.table.embeddings().float(), strict=True))


@pytest.fixture(params=KINDS)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    return Rig(request.param, tmp_path)


def test_len_in_and_stats(rig: Rig) -> None:
    assert (len(rig.table), len(rig.other)) == (10, 3)
    assert [i in rig.table for i in (5, -7, -(2**63), 100, 1)] == [True, True, True, False, False]
    assert np.int32(5) in rig.table
    assert torch.tensor(100) in rig.other
    stats = rig.table.stats()
    assert (stats["rows"], rig.other.stats()["rows"], stats["storage_rows"]) == (10, 3, 13)
    assert not len(HashTable([4]))
    assert HashTable([4])  # a module, whatever is in it


def test_lookup(rig: Rig) -> None:
    rows, before = rig.rows(), rig.table.stats()
    ids = torch.tensor([[5, 77, -7], [2**62, 5, 5]])
    vectors, found = rig.table.lookup(ids)
    assert found.tolist() == [[True, False, True], [True] * 3]
    assert vectors.dtype == torch.float32
    assert not vectors.requires_grad
    for row, at in ((rows[5], (0, 0)), (rows[-7], (0, 2)), (rows[2**62], (1, 0)), (rows[5], (1, 2))):
        assert torch.equal(vectors[at], row)
    after = {name: count for name, count in rig.table.stats().items() if "bytes" not in name}
    assert after == {name: count for name, count in before.items() if "bytes" not in name}
    rig.train(torch.tensor([77]))
    engine = Rig("torch", Path(), dtype=rig.table.option.dtype).engine  # what an unknown id begins with
    assert torch.equal(vectors[0, 1], engine.table("a").lookup([77])[0][0].to(rig.table.option.dtype).float())
    assert 77 in rig.table


def test_lookup_of_what_is_unknown_and_of_nothing(tmp_path: Path) -> None:
    table = Rig("numba", tmp_path, unknown="zeros").table
    vectors, found = table.lookup([77, 5])
    assert vectors[0].tolist() == [0.0] * 4
    assert found.tolist() == [False, True]
    for nothing in ([], torch.zeros(0, 3, dtype=torch.int64), np.zeros(0, np.int32)):
        vectors, found = table.lookup(nothing)
        assert vectors.shape == (*found.shape, 4)
        assert vectors.numel() == 0
    with torch.inference_mode(), torch.device("meta"):
        assert table.lookup(IDS)[1].all()


@pytest.mark.parametrize(
    "ids", [[5, -7], (5, -7), np.array([5, -7], np.int16), torch.tensor([5, -7], dtype=torch.int32), range(5, 6)]
)
def test_ids_as_people_have_them(tmp_path: Path, ids: Any) -> None:
    rig = Rig("numba", tmp_path)
    assert rig.table.lookup(ids)[1].all()
    assert rig.table.erase(ids) == len(ids)


@pytest.mark.parametrize(
    ("ids", "error", "words"),
    [
        ([1.5], TypeError, "integers; got torch.float64"),
        (["5"], TypeError, "hash_strings"),
        (torch.tensor([1.0]), TypeError, "integers; got torch.float32"),
        ([None], TypeError, "integers"),
        ("5", TypeError, "hash_strings"),
        ([2**70], ValueError, "64 bits.*got 1180591620717411303424"),
        ([-(2**63) - 1], ValueError, "64 bits"),
        (torch.zeros(1, dtype=torch.int64, device="meta"), ValueError, "ids are on meta"),
    ],
)
def test_ids_that_are_none(tmp_path: Path, ids: Any, error: type, words: str) -> None:
    table = Rig("numba", tmp_path).table
    for verb in (table.lookup, table.erase):
        with pytest.raises(error, match=words):
            verb(ids)
    assert len(table) == 10


@pytest.mark.parametrize(("id", "error"), [("5", TypeError), (5.0, TypeError), (True, TypeError), (2**64, ValueError)])
def test_in_of_what_is_no_id(tmp_path: Path, id: Any, error: type) -> None:
    table = Rig("numba", tmp_path).table
    with pytest.raises(error):
        id in table  # noqa: B015
    with pytest.raises(TypeError, match="lookup"):
        IDS in table  # noqa: B015


def test_unsigned_ids_are_the_same_bits(tmp_path: Path) -> None:
    table = Rig("numba", tmp_path).table  # which has -7 and -2**63
    assert 2**63 in table
    assert 2**64 - 7 in table
    for ids in (
        [2**63, 2**64 - 7],
        np.array([2**63, 2**64 - 7], np.uint64),
        torch.tensor([-(2**63), -7]).view(torch.uint64),
    ):
        assert table.lookup(ids)[1].all()


def test_erase(rig: Rig) -> None:
    rows = rig.rows()
    assert rig.table.erase([5, 77, 2**62, 5]) == 2
    assert rig.table.erase([5]) == rig.table.erase([]) == 0
    assert (len(rig.table), len(rig.other), 5 in rig.table, 5 in rig.other) == (8, 3, False, True)
    assert rig.rows().keys() == rows.keys() - {5, 2**62}
    assert rig.table.stats()["erased"] == 2
    initial = rig.table.lookup([5])[0]
    rig.engine({"a": torch.tensor([5]), "b": torch.tensor([100])})
    assert torch.equal(rig.table.lookup([5])[0], initial)  # it begins anew
    slots, at = rig.table.snapshot().slots, rig.table.ids() == 5
    assert slots
    assert not any(values[at].any() for values in slots.values())


def test_what_waits_goes_with_its_rows(rig: Rig) -> None:
    rows = rig.rows()
    pending, coming = rig.loss(torch.tensor([5, -7])), rig.loss(torch.tensor([5, 11]))
    pending.backward()
    assert rig.table.erase([5]) == 1
    coming.backward()
    rig.optimizer.step()
    after = rig.rows()
    assert after.keys() == rows.keys() - {5}
    assert {i for i in after if not torch.equal(after[i], rows[i])} == {-7, 11}


def test_items(rig: Rig) -> None:
    rows = rig.rows()
    for chunk in (1, 3, 10, 65_536):
        parts = list(rig.table.items(chunk))
        assert [len(ids) for ids, _ in parts] == [chunk] * (10 // chunk) + [10 % chunk] * bool(10 % chunk)
        ids, vectors = (torch.cat(list(column)) for column in zip(*parts, strict=True))
        assert (ids.dtype, vectors.dtype, len(set(ids.tolist()))) == (torch.int64, torch.float32, 10)
        assert all(torch.equal(vector, rows[int(i)]) for i, vector in zip(ids, vectors, strict=True))
        assert ids.tolist() == torch.cat([ids for ids, _ in rig.table.items(4)]).tolist()
    assert {int(i) for ids, _ in rig.other.items() for i in ids} == {5, 100, 101}
    assert not list(HashTable([4]).items())
    for wrong in (0, -1, 2.5, True, None):
        with pytest.raises(ValueError, match="chunk"):
            rig.table.items(wrong)  # type: ignore[arg-type]


def test_items_have_one_order_on_all_backends(tmp_path: Path) -> None:
    orders = [
        torch.cat([ids for ids, _ in Rig(kind, tmp_path).table.items(3)]).tolist() for kind in ("torch", "numba", "jax")
    ]
    assert orders[0] == orders[1] == orders[2]


def changes(rig: Rig) -> dict[str, Any]:
    state = rig.engine.state_dict()
    return {
        "a new id": lambda: rig.engine({"a": torch.tensor([555]), "b": torch.tensor([5])}),
        "a step": lambda: rig.train(torch.tensor([5])),
        "erase": lambda: rig.table.erase([11]),
        "insert": lambda: rig.table.insert(torch.tensor([12]), torch.ones(1, 4)),
        "another table's id": lambda: rig.other.insert(torch.tensor([9]), torch.ones(1, 4)),
        "a load": lambda: rig.engine.load_state_dict(state),
        "clear": rig.table.clear,
    }


def test_items_of_a_table_that_changes(rig: Rig) -> None:
    for name, change in changes(rig).items():
        parts = rig.table.items(2)
        next(parts)
        change()
        with pytest.raises(RecisError, match="table 'a' has changed since its items\\(\\) began"):
            next(parts)
        assert not list(parts), name


def test_looks_between_items_change_nothing(tmp_path: Path) -> None:
    rig = Rig("numba", tmp_path)
    seen = []
    for ids, _ in rig.table.items(3):
        seen += ids.tolist()
        with torch.no_grad():
            rig.engine.eval()({"a": torch.tensor([5, 999]), "b": torch.tensor([5])})
        assert len(rig.table) == 10
        assert rig.table.lookup([5, 999])[1].tolist() == [True, False]
    assert sorted(seen) == sorted(IDS.tolist())


def test_items_beside_rows_that_move(tmp_path: Path) -> None:
    """A Prefetcher's thread brings rows up: what would be missed or told twice is refused."""
    from recis_core.table.tiers import staging
    from recis_core.table.tiers.planned_calls import digest_of, unique_keys

    rig = Rig("disk", tmp_path)
    state = rig.table.physical.storage.tiers
    parts = rig.table.items(1)
    next(parts)
    call = rig.engine.training_calls({"a": torch.arange(11, 14), "b": torch.tensor([900])})[0][1]
    with state.lock:
        staging.stage(state, state.planned_calls.plan(state.device, digest_of(call), unique_keys(call)), new=True)
    assert (len(rig.table), 900 in rig.other) == (10, False)  # made ahead of its call: not the table's yet
    with pytest.raises(RecisError, match="moved"):
        list(parts)
    assert len(next(iter(rig.table.items()))[0]) == 10


class Reads:
    """Rows and keys that a storage gives out."""

    def __init__(self, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most, storage = 0, table.storage
        for stage in ("export", "marks"):
            monkeypatch.setattr(storage, stage, lambda *args, stage=stage: pytest.fail(f"{stage} was called"))
        for stage in ("lookup", "gather", "erase"):
            monkeypatch.setattr(storage, stage, self._counting(getattr(storage, stage)))

    def _counting(self, call: Any) -> Any:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.most = max(self.most, len(args[0]))
            return call(*args, **kwargs)

        return counted


@pytest.mark.parametrize("cache", [None, CacheConfig(device_rows=500, policy="lru")])
def test_what_is_read_is_what_is_asked_for(cache: CacheConfig | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 20,000 rows: no export, no marks, no call on more keys than were named, no more rows at once than a chunk."""
    table = HashTable.__new__(HashTable)
    engine = EmbeddingEngine({"a": EmbeddingOption(4, backend="numba", cache=cache)})
    table = engine.table("a")
    table.insert(torch.arange(20_000), torch.zeros(20_000, 4))
    reads = Reads(table.physical, monkeypatch)
    assert len(table) == table.stats()["rows"] == 20_000
    assert 5 in table
    assert table.lookup(range(10))[1].all()
    assert table.erase(range(10)) == 10
    assert reads.most == 10
    assert sum(len(ids) for ids, _ in table.items(1000)) == 19_990
    assert reads.most <= 1000
    if cache is not None:
        assert table.stats()["cache_bytes_from_host"] < 20_000 * 20


def test_trainable_and_requires_grad_are_one(tmp_path: Path) -> None:
    rig = Rig("numba", tmp_path)
    rows = rig.rows()
    for freeze in (
        lambda on: setattr(rig.table, "trainable", on),
        lambda on: setattr(rig.table, "requires_grad", on),
        lambda on: rig.table.requires_grad_(on),
        lambda on: rig.engine.requires_grad_(on),
    ):
        freeze(False)
        assert (rig.table.trainable, rig.table.requires_grad) == (False, False)
        rig.optimizer.zero_grad()
        out = rig.engine({"a": IDS, "b": torch.tensor([5])})
        assert not out["a"].requires_grad
        assert torch.equal(rig.rows()[5], rows[5])
        freeze(True)
        assert (rig.table.trainable, rig.table.requires_grad) == (True, True)
        assert rig.engine({"a": IDS, "b": torch.tensor([5])})["a"].requires_grad
    for wrong in (None, 1, "no"):
        with pytest.raises(TypeError, match="trainable must be True or False"):
            rig.table.trainable = wrong  # type: ignore[assignment]


def test_kept_rows_are_counted_when_they_are_opened(tmp_path: Path) -> None:
    """Before the first call, of each of two tables in one directory."""
    cache = CacheConfig(device_rows=4, host_rows=2, disk=str(tmp_path), keep=True, policy="lru")

    def engine_of() -> EmbeddingEngine:
        engine = EmbeddingEngine({name: EmbeddingOption(4, backend="numba", cache=cache) for name in ("a", "b")})
        SparseSGD(engine.sparse_parameters(), lr=0.1)
        return engine

    first = engine_of()
    first({"a": torch.arange(9), "b": torch.arange(4)})
    first.table("a").erase([3])
    first.close()
    again = engine_of()
    assert (len(again.table("a")), len(again.table("b"))) == (8, 4)
    assert [3 in again.table("a"), 4 in again.table("a")] == [False, True]
    again.close()
    with pytest.raises(RecisError, match="closed"):
        len(again.table("a"))


def test_counts_of_what_was_made_ahead_and_left(tmp_path: Path) -> None:
    """A row of a call that was planned and never came is no row, also once it has left the device."""
    from recis_core.table.tiers import staging
    from recis_core.table.tiers.planned_calls import digest_of, unique_keys

    rig = Rig("host", tmp_path)
    state = rig.table.physical.storage.tiers
    call = rig.engine.training_calls({"a": torch.tensor([901]), "b": torch.tensor([902])})[0][1]
    with state.lock:
        staging.stage(state, state.planned_calls.plan(state.device, digest_of(call), unique_keys(call)), new=True)
        state.planned_calls.forget(state.device)
    for part in torch.arange(1000, 1060).split(5):
        rig.train(part)
    assert len(rig.table) == len(rig.table.ids()) == 70
    assert rig.table.stats()["storage_rows"] == 73 == state.known_rows() == state.table_rows


def test_outputs_are_typed() -> None:
    assert typing.get_type_hints(EmbeddingEngine.forward)["return"] == dict[str, Tensor]
    assert (ROOT / "recis_core" / "py.typed").exists()


USER = """
import torch
from torch import Tensor
from recis_core.nn import EmbeddingEngine, EmbeddingOption
engine = EmbeddingEngine({"user": EmbeddingOption(8)})
out = engine({"user": torch.tensor([1])})
x: int = out["user"]
y: int = engine.table("user").lookup([1])
def loss() -> Tensor:
    rows = [vectors.sum() for _, vectors in engine.table("user").items()]
    return out["user"].sum() + rows[0] + len(engine.table("user"))
"""


@pytest.mark.full
def test_a_users_mypy_sees_the_types(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(USER)
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "user.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"MYPYPATH": str(ROOT)}, capture_output=True, text=True
    )
    errors = [line for line in done.stdout.splitlines() if "error" in line]
    assert 'expression has type "Tensor", variable has type "int"' in errors[0]
    assert 'expression has type "tuple[Tensor, Tensor]"' in errors[1]
    assert len(errors) == 3  # and their number
