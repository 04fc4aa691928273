"""Checkpoints without a model: what was written is read, in bounded files, by stock safetensors, too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from recis_core.errors import CorruptCheckpoint, StateMismatch
from recis_core.nn import HashTable
from recis_core.optim import SparseAdam
from recis_core.serialize import TableBlock, load_rows, load_state, new_checkpoint, open_checkpoint, save_state
from tests.serialize.checkpoint.blocks import block, by_id
from tests.serialize.states import STATE, same, seal

PLACES = ["{tmp}", "file://{tmp}", "memory://recis-{name}"]


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.param).format(tmp=tmp_path, name=tmp_path.name)


def write(place: object, step: int = 7, **more: object) -> None:
    with new_checkpoint(str(place), step, file_bytes=4096, **more) as writer:
        assert writer.table("user/α", [block(range(500)), block(range(500, 777))], dim=4) == 777
        writer.table("half", [block([1, -(2**63)], dtype=torch.bfloat16)], dim=4, dtype=torch.bfloat16)
        writer.table("none", [], dim=3)
        writer.part("dense", STATE)


def test_what_was_written_is_read(place: str) -> None:
    write(place, environment={"why": "a test"})
    for where in (place, f"{place}/step-00000007"):
        found = open_checkpoint(where)
        assert (found.step, found.kind, found.environment, found.parts) == (7, "full", {"why": "a test"}, ("dense",))
        assert same(found.part("dense"), STATE)
        info = found.tables["user/α"]
        assert (info.rows, info.dim, info.dtype, dict(info.slots)) == (
            777,
            4,
            torch.float32,
            {"exp_avg": 4, "count": 1},
        )
        assert info.shards > 5
        assert by_id(found.blocks("user/α", rows=10)) == by_id([block(range(777))])
        assert max(len(each.ids) for each in found.blocks("user/α", rows=10)) == 10
        assert by_id(found.blocks("half")) == by_id([block([1, -(2**63)], dtype=torch.bfloat16)])
        assert list(found.blocks("none")) == []
        found.verify()


def test_a_second_one_of_a_step_replaces_the_first_and_others_stay(place: str) -> None:
    write(place)
    write(place, 8)
    with new_checkpoint(place, 8) as writer:
        writer.part("dense", [1])
    assert open_checkpoint(place).part("dense") == [1]
    assert open_checkpoint(f"{place}/step-00000007").tables["user/α"].rows == 777


def broken() -> Iterator[TableBlock]:
    yield block(range(300))
    raise KeyError("no more")


def test_one_that_fails_changes_nothing(place: str) -> None:
    write(place)
    for step in (7, 9):
        with pytest.raises(KeyError, match="no more"), new_checkpoint(place, step) as writer:
            writer.table("user/α", broken(), dim=4)
    found = open_checkpoint(place)
    assert (found.step, found.tables["user/α"].rows) == (7, 777)
    found.verify()


def test_stock_safetensors_opens_a_table(tmp_path: Path) -> None:
    write(tmp_path)
    files = sorted((tmp_path / "step-00000007").glob("table.user*.safetensors"))
    found = [load_file(file) for file in files]
    assert all(file.stat().st_size < 5000 for file in files)
    blocks = [TableBlock(f["/ids"], f["/rows"], {k[7:]: v for k, v in f.items() if k[:7] == "/slots/"}) for f in found]
    wanted = {key: (row, slots, {}) for key, (row, slots, _) in by_id([block(range(777))]).items()}
    assert by_id(blocks) == wanted


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (block([1, 1]), "distinct"),
        (block([1], dim=5), r"must be torch.float32 \[1, 4\]; got torch.float32 \[1, 5\]"),
        (block([1], dtype=torch.float16), "torch.float16"),
        (TableBlock(torch.tensor([1]), torch.zeros(1, 4)), "same slots and marks"),
    ],
)
def test_a_block_of_another_form_is_refused(tmp_path: Path, wrong: TableBlock, said: str) -> None:
    with pytest.raises(ValueError, match=said), new_checkpoint(tmp_path, 1) as writer:
        writer.table("user", [block([7]), wrong], dim=4)
    with pytest.raises(FileNotFoundError):
        open_checkpoint(tmp_path)


def test_names_that_are_not_there(tmp_path: Path) -> None:
    write(tmp_path)
    found = open_checkpoint(tmp_path)
    with pytest.raises(StateMismatch, match="no table 'item'; it has half, none, user/α"):
        found.blocks("item")
    with pytest.raises(StateMismatch, match="no part 'optimizer'; it has dense"):
        found.part("optimizer")


def forged(path: Path, change) -> str:
    """What reading a manifest says whose hash is right."""
    good = (path / "manifest.json").read_bytes()
    values = json.loads(good)
    del values["xxh3_128"]
    change(values)
    seal(path, json.dumps(values).encode())
    with pytest.raises(CorruptCheckpoint) as refused:
        open_checkpoint(path)
    (path / "manifest.json").write_bytes(good)
    return str(refused.value)


FORGERIES = {
    "folder": (lambda v: v.update(folder="../step-00000001"), "folder is no name"),
    "kind": (lambda v: v.update(kind="delta"), "its base says 'full'"),
    "base": (lambda v: v.update(kind="delta", base={"step": 9, "xxh3_128": "0" * 32}), "no earlier one"),
    "no part": (lambda v: v["tables"]["half"].update(files=[["dense"], ["x"]]), "a table's part wants the keys"),
    "path": (lambda v: v["tables"]["half"].update(files=[["../dense"]]), "no parts"),
    "twice": (lambda v: v["tables"]["half"]["files"].append(v["tables"]["half"]["files"][0]), "twice"),
    "dim": (lambda v: v["tables"]["half"].update(dim=10**9), "columns; its entry says"),
    "dtype": (lambda v: v["tables"]["half"].update(dtype="F32"), "wanted a tensor of F32"),
    "slots": (lambda v: v["tables"]["half"].update(slots={}), "other slots"),
    "sections": (lambda v: v["parts"]["dense"].update(sections={}), "no hash for each of its tensors"),
    "environment": (lambda v: v.update(environment=[1]), "are objects"),
    "key": (lambda v: v.pop("tables"), "wants the keys"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_manifest_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path)
    change, said = FORGERIES[name]
    assert said in forged(tmp_path / "step-00000007", change)


def test_damage_names_file_and_section(tmp_path: Path) -> None:
    write(tmp_path)
    file = next((tmp_path / "step-00000007").glob("table.half*"))
    good = file.read_bytes()
    stamps = good.index(block([1, -(2**63)]).marks["stamps"].numpy().tobytes())
    for at, said in ((len(good) - 1, "Section '/rows'"), (9, "header"), (stamps, "Section '/marks/stamps'")):
        bad = bytearray(good)
        bad[at] ^= 4
        file.write_bytes(bad)
        with pytest.raises(CorruptCheckpoint, match=said) as found:
            open_checkpoint(tmp_path).verify()
        assert file.name in str(found.value)
    file.write_bytes(good[:-3])
    with pytest.raises(CorruptCheckpoint, match="It ends in section"):
        open_checkpoint(tmp_path).verify()


def test_format_2_is_read(tmp_path: Path) -> None:
    path = save_state(tmp_path, 7, STATE)
    values = json.loads((path / "manifest.json").read_bytes())
    parts = {name: {k: v for k, v in part.items() if k != "sections"} for name, part in values["parts"].items()}
    seal(path, json.dumps({"format": 2, "placement": 1, "step": 7, "parts": parts}).encode())
    assert same(load_state(path), STATE)
    assert open_checkpoint(tmp_path).parts == tuple(STATE)


def test_rows_into_a_table() -> None:
    table = HashTable([4], name="t", backend="numba")
    optimizer = SparseAdam({"t": table}, lr=0.1)
    table.insert(torch.tensor([5, 6]), torch.ones(2, 4))
    there = [TableBlock(each.ids, each.rows) for each in (block([1, 2, 5]), block([9]))]
    assert load_rows(table, there) == 4
    assert table.ids().tolist() == [1, 2, 5, 6, 9]
    assert torch.equal(table.lookup([5, 6])[0], torch.stack([block([5]).rows[0], torch.ones(4)]))
    with pytest.raises(ValueError, match="must be torch.float32"):
        load_rows(table, [there[1], block([1], dim=3)], replace=True)
    assert table.ids().tolist() == [1, 2, 5, 6, 9]
    assert load_rows(table, there[1:], replace=True) == 1
    assert table.ids().tolist() == [9]
    del optimizer
