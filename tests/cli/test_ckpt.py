"""recis ckpt, as a user types it, on checkpoints, training states, and those of other programs."""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from recis_core.cli import main
from recis_core.io import hash_strings
from recis_core.nn import HashTable
from recis_core.optim import SparseAdam
from recis_core.serialize import (
    CheckpointManager,
    TableBlock,
    new_checkpoint,
    open_checkpoint,
    parquet_source,
    save_state,
    state_source,
)
from recis_core.serialize.checkpoint.table_files import TableFiles
from recis_core.serialize.manifest import Base, Head
from recis_core.serialize.part_writers import PartWriters
from recis_core.serialize.saved_state import commit
from recis_core.serialize.state_directory import saving, state_name
from recis_core.serialize.tables import snapshot_tables
from tests.serialize.imports import recis_files

N, D = 50, 3


def ckpt(capsys, *argv):
    """(exit status, standard output, standard error)"""
    try:
        status = main(["ckpt", *map(str, argv)])
    except SystemExit as stop:
        status = stop.code
    out, err = capsys.readouterr()
    return status, out, err


def as_json(capsys, *argv):
    status, out, err = ckpt(capsys, *argv, "--json")
    assert (status, err) == (0, "")
    return json.loads(out)


def rows_of(ids, seed=0):
    return (ids[:, None] * 0.5 + torch.arange(D) + seed).float()


def block(ids, seed=0):
    ids = torch.as_tensor(ids)
    return TableBlock(ids, rows_of(ids, seed), {"m": rows_of(ids, 10), "v": rows_of(ids, 20)}, {"stamps": ids.int()})


def write(directory, step=5, seed=0, ids=None, dense=1.0):
    """A checkpoint of tables item and user."""
    with new_checkpoint(directory, step, environment={"commit": "abc", "saved": "then"}, file_bytes=600) as writer:
        ids = torch.arange(N) * 7 - 20 if ids is None else ids
        writer.table("item", [block(part, seed) for part in ids.split(20)], dim=D)
        writer.table("user", [TableBlock(torch.tensor([1]), torch.ones(1, 2).bfloat16())], dim=2, dtype=torch.bfloat16)
        writer.part("dense", {"w": torch.full((2,), dense)})
        writer.part("optimizer", {"t": {"item": 9, "user": 9}})
    return directory


def write_delta(directory, step, base, new, erased):
    """What a manager writes of rows that changed since the base, made by hand of the same files."""
    final = Path(directory) / state_name(step)
    with saving(final) as aside:
        with PartWriters(aside) as files:
            table = TableFiles(files, "item", D, torch.float32)
            table.add(new)
            table.end(erased)
            user = TableFiles(files, "user", 2, torch.bfloat16)
            user.end(torch.tensor([99]))
        tables = {"item": table.entry(whole=False), "user": user.entry(whole=False)}
        head = Head(Base(base, open_checkpoint(Path(directory) / state_name(base)).manifest.xxh3_128), tables=tables)
        commit(aside, final, step, files.written, head)


def content(path, name="item"):
    found = list(state_source(path).tables[name].blocks())
    ids, order = torch.cat([each.ids for each in found]).sort()
    slots = {slot: torch.cat([each.slots[slot] for each in found])[order] for slot in found[0].slots}
    return ids, torch.cat([each.rows for each in found])[order], slots


def test_help_and_wrong_commands(capsys):
    assert ckpt(capsys)[0] == 0
    assert "recis ckpt compact" in ckpt(capsys, "--help")[1]
    status, _, err = ckpt(capsys, "list")
    assert status == 2
    assert "there is no command 'list'" in err
    status, _, err = ckpt(capsys, "diff", "a", "b", "--memory", "much")
    assert status == 2
    assert "--memory must be a size such as 512MB or 4GiB; got 'much'" in err


def test_ls_and_show(capsys, tmp_path):
    write(tmp_path)
    write_delta(tmp_path, 6, 5, block([1, 8]), torch.tensor([15]))
    write(tmp_path, step=7)
    (tmp_path / "step-00000007" / "manifest.json").write_text("{}")
    status, out, _ = ckpt(capsys, "ls", tmp_path, "--json")
    assert status == 0
    full, delta, damaged = map(json.loads, out.splitlines())
    assert (full["step"], full["kind"], full["tables"], full["rows"], full["saved"]) == (5, "full", 2, N + 1, "then")
    assert (delta["kind"], delta["base"], delta["rows"]) == ("delta", 5, 2)
    assert "manifest.json cannot be read" in damaged["fault"]
    status, out, _ = ckpt(capsys, "ls", tmp_path)
    assert status == 0
    assert "delta of 5" in out
    status, _, err = ckpt(capsys, "ls", tmp_path / "nothing")
    assert status == 1
    assert "holds no checkpoint; wanted step-*/manifest.json" in err
    facts = as_json(capsys, "show", tmp_path / "step-00000005")
    assert facts["tables"]["item"] == {
        "rows": N, "dim": D, "dtype": "float32", "slots": ["m", "v"], "files": facts["tables"]["item"]["files"],
        "bytes": facts["tables"]["item"]["bytes"], "whole": True,
    }  # fmt: skip
    assert facts["tables"]["item"]["files"] > 1
    assert facts["tables"]["item"]["bytes"] > N * D * 12
    assert facts["environment"] == {"commit": "abc", "saved": "then"}
    status, out, _ = ckpt(capsys, "show", tmp_path / "step-00000006")
    assert "step 6, delta, with what changed since step 5" in out
    assert "bfloat16" in out


def test_verify_names_file_and_section(capsys, tmp_path):
    write(tmp_path)
    status, out, _ = ckpt(capsys, "verify", tmp_path)
    assert status == 0
    assert "step 5: whole" in out
    write(tmp_path, step=6)
    file = next((tmp_path / "step-00000005").glob("table.item.0*"))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    status, out, err = ckpt(capsys, "verify", tmp_path, "--all")
    assert status == 1
    assert file.name in err
    assert "/ids" in err or "/marks" in err or "/rows" in err or "/slots" in err
    assert "step 6: whole" in out
    status, out, _ = ckpt(capsys, "verify", tmp_path, "--all", "--json")
    assert [(line["step"], line["whole"]) for line in map(json.loads, out.splitlines())] == [(5, False), (6, True)]


@pytest.mark.parametrize("memory", ["256MB", "1kB"])
def test_diff(capsys, tmp_path, memory):
    ids = torch.arange(N) * 7 - 20
    write(tmp_path / "a")
    write(tmp_path / "b", ids=ids.flip(0))
    found = as_json(capsys, "diff", tmp_path / "a", tmp_path / "b", "--memory", memory)
    assert found["equal"]
    assert found["tables"]["item"] == {
        "rows": [N, N], "only": [0, 0], "both": N, "differ": 0, "largest": {"rows": 0, "m": 0, "v": 0}, "notes": []
    }  # fmt: skip
    with new_checkpoint(tmp_path / "c", 5) as writer:
        changed = block(ids[5:])
        changed.rows[3, 1] += 2
        changed.slots["v"][3, 0] -= 0.5
        changed.slots["v"][4, 0] = float("nan")
        writer.table("item", [changed, block([10_000, 10_007])], dim=D)
        writer.part("dense", {"w": torch.full((2,), 1.5)})
    found = as_json(capsys, "diff", tmp_path / "a", tmp_path / "c", "--memory", memory)
    assert found["tables"]["item"] == {
        "rows": [N, N - 3], "only": [5, 2], "both": N - 5, "differ": 2, "largest": {"rows": 2, "m": 0, "v": "inf"},
        "notes": [],
    }  # fmt: skip
    assert (found["only_a"], found["only_b"], found["dense"], found["equal"]) == (["user"], [], {"w": 0.5}, False)
    status, out, _ = ckpt(capsys, "diff", tmp_path / "a", tmp_path / "c")
    assert status == 0
    assert "only a has table user" in out
    assert "not equal" in out


def test_diff_of_other_forms(capsys, tmp_path):
    for name, dim, slots in (("a", 2, {"m": torch.ones(1, 2)}), ("b", 2, {}), ("c", 3, {})):
        with new_checkpoint(tmp_path / name, 1) as writer:
            writer.table("t", [TableBlock(torch.tensor([4]), torch.ones(1, dim), slots)], dim=dim)
    found = as_json(capsys, "diff", tmp_path / "a", tmp_path / "b")["tables"]["t"]
    assert (found["differ"], found["notes"]) == (0, ["only one has slot m"])
    found = as_json(capsys, "diff", tmp_path / "b", tmp_path / "c")
    assert not found["equal"]
    assert found["tables"]["t"]["notes"] == ["rows have dim 2 and 3, and are not compared"]


def test_compact_and_diffs_of_deltas(capsys, tmp_path):
    write(tmp_path)
    write_delta(tmp_path, 6, 5, block([1, 1000], seed=3), torch.tensor([8]))
    write_delta(tmp_path, 7, 6, block([-20], seed=4), torch.tensor([1000]))
    before = content(tmp_path)
    assert len(before[0]) == N - 1
    status, _, err = ckpt(capsys, "compact", tmp_path / "step-00000006")
    assert status == 1
    assert "holds what changed since step 6" in err
    assert as_json(capsys, "compact", tmp_path)["compacted"] == 2
    assert open_checkpoint(tmp_path).kind == "full"
    for one, other in zip(before[:2], content(tmp_path)[:2], strict=True):
        assert torch.equal(one, other)
    assert as_json(capsys, "compact", tmp_path)["compacted"] == 0
    assert as_json(capsys, "compact", tmp_path / "step-00000006", "--out", tmp_path / "out")["compacted"] == 1
    found = as_json(capsys, "diff", tmp_path / "step-00000006", tmp_path / "out")
    assert found["equal"]


def test_reshard(capsys, tmp_path):
    write(tmp_path / "a")
    said = as_json(capsys, "reshard", tmp_path / "a", tmp_path / "b", "--exclude", "user", "--rename", "i*=goods/i*")
    assert said == {"out": str(tmp_path / "b"), "step": 5, "rows": {"goods/item": N}}
    again = open_checkpoint(tmp_path / "b")
    assert again.tables["goods/item"].shards == 1
    assert again.environment["commit"] == "abc"
    assert again.parts == ("dense",)
    for one, other in zip(content(tmp_path / "a")[:2], content(tmp_path / "b", "goods/item")[:2], strict=True):
        assert torch.equal(one, other)
    assert as_json(capsys, "reshard", tmp_path / "a", tmp_path / "whole", "--file-size", "1kB")["rows"]["item"] == N
    whole = open_checkpoint(tmp_path / "whole")
    assert whole.part("optimizer") == {"t": {"item": 9, "user": 9}}
    assert whole.tables["item"].shards > 1
    assert as_json(capsys, "diff", tmp_path / "a", tmp_path / "whole")["equal"]
    status, _, err = ckpt(capsys, "reshard", tmp_path / "a", tmp_path / "b")
    assert status == 1
    assert "has a checkpoint of step 5" in err
    status, _, err = ckpt(capsys, "reshard", tmp_path / "a", tmp_path / "c", "--load", "nothing")
    assert "has no table 'nothing'; it has item, user" in err
    assert ckpt(capsys, "reshard", tmp_path / "a", tmp_path / "c", "--file-size", "big")[0] == 2
    assert ckpt(capsys, "reshard", tmp_path / "a", tmp_path / "c", "--rename", "item")[0] == 2


@pytest.mark.parametrize("ending", [".parquet", ".npz", ".safetensors"])
def test_export(capsys, tmp_path, ending):
    write(tmp_path / "a")
    out = tmp_path / f"item{ending}"
    said = as_json(capsys, "export", tmp_path / "a", out, "--table", "item", "--slots")
    assert said == {"out": str(out), "table": "item", "rows": N, "dim": D, "slots": ["m", "v"]}
    if ending == ".parquet":
        found = pq.read_table(out).to_pydict()
        ids, rows, v = (torch.tensor(found[name]) for name in ("id", "vector", "v"))
        again = list(parquet_source("item", out, slots=["m", "v"]).tables["item"].blocks())
        assert torch.equal(torch.cat([each.slots["m"] for each in again]), rows_of(ids, 10))
    elif ending == ".npz":
        with np.load(out) as arrays:
            ids, rows, v = (torch.tensor(arrays[name]) for name in ("ids", "rows", "v"))
    else:
        arrays = load_file(out)
        ids, rows, v = arrays["ids"], arrays["rows"], arrays["v"]
    assert torch.equal(ids.sort().values, torch.arange(N) * 7 - 20)
    assert torch.equal(rows, rows_of(ids))
    assert torch.equal(v, rows_of(ids, 20))
    user = tmp_path / f"user{ending}"
    assert ckpt(capsys, "export", tmp_path / "a", user, "--table", "user")[0] == 0
    if ending == ".safetensors":
        assert load_file(user)["rows"].dtype == torch.bfloat16
    status, _, err = ckpt(capsys, "export", tmp_path / "a", user, "--table", "user")
    assert status == 1
    assert "is there already, and is not replaced" in err


def test_export_that_cannot_be(capsys, tmp_path):
    write(tmp_path / "a")
    status, _, err = ckpt(capsys, "export", tmp_path / "a", tmp_path / "x.parquet")
    assert status == 1
    assert "has tables item, user; --table says which one" in err
    assert "--table no: " in ckpt(capsys, "export", tmp_path / "a", tmp_path / "x.parquet", "--table", "no")[2]
    assert ckpt(capsys, "export", tmp_path / "a", tmp_path / "x.csv", "--table", "item")[0] == 2
    file = next((tmp_path / "a" / "step-00000005").glob("table.item.1*"))
    file.write_bytes(file.read_bytes()[:-1])
    status, _, err = ckpt(capsys, "export", tmp_path / "a", tmp_path / "x.parquet", "--table", "item")
    assert (status, file.name in err) == (1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_training_states_too(capsys, tmp_path):
    tables = {
        "item": HashTable([D], name="item", backend="torch"),
        "user": HashTable([2], name="user", backend="torch"),
    }
    optimizer = SparseAdam(tables)
    ids = torch.arange(9)
    (tables["item"](ids).sum() + tables["user"](ids[:4]).sum()).backward()
    optimizer.step()
    save_state(tmp_path / "run", 3, {**snapshot_tables(tables), "dense": {}, "optimizer": optimizer.state_dict()})
    assert as_json(capsys, "show", tmp_path / "run")["tables"]["item"]["slots"] == ["m", "v"]
    assert ckpt(capsys, "verify", tmp_path / "run")[0] == 0
    assert as_json(capsys, "reshard", tmp_path / "run", tmp_path / "b")["rows"] == {"item": 9, "user": 4}
    found = as_json(capsys, "diff", tmp_path / "run", tmp_path / "b")
    assert found["equal"]
    assert found["tables"]["user"]["both"] == 4
    assert as_json(capsys, "export", tmp_path / "run", tmp_path / "x.npz", "--table", "user")["rows"] == 4


def test_import_of_recis(capsys, tmp_path):
    source = recis_files.write(tmp_path / "ckpt_40")
    torch.save({"tower.weight": torch.ones(2, 3)}, source / "model.pt")
    torch.save({"global_step": torch.tensor(40)}, source / "extra.pt")
    said = as_json(capsys, "import", source, tmp_path / "ours", "--rename", "user.id=user")
    assert said == {
        "out": str(tmp_path / "ours"),
        "step": 40,
        "rows": {"item": 5, "user": 1},
        "dense": 1,
        "optimizer": ["sparse"],
        "t": {"item": recis_files.T},
        "ignored": {},
    }
    ids, rows, slots = content(tmp_path / "ours")
    assert torch.equal(rows, recis_files.rows_of(ids, 0))
    assert torch.equal(slots["v"], recis_files.rows_of(ids, 20))
    assert state_source(tmp_path / "ours").tables["item"].t == recis_files.T
    assert as_json(capsys, "diff", source, tmp_path / "ours")["tables"]["item"]["differ"] == 0
    status, _, err = ckpt(capsys, "import", source, tmp_path / "ours")
    assert status == 1
    assert "has a checkpoint of step 40" in err
    assert ckpt(capsys, "import", source, tmp_path / "ours", "--overwrite", "--load", "item")[0] == 0
    assert list(open_checkpoint(tmp_path / "ours").tables) == ["item"]


def test_import_of_torchrec_and_parquet(capsys, tmp_path):
    torch.save({"embedding_bags.item.weight": torch.randn(4, 2).half(), "w": torch.ones(1)}, tmp_path / "model.pt")
    assert as_json(capsys, "import", tmp_path / "model.pt", tmp_path / "a")["rows"] == {"item": 4}
    assert open_checkpoint(tmp_path / "a").tables["item"].dtype == torch.float32
    table = {"key": ["x", "y"], "f0": [1.0, 2.0], "f1": [3.0, float("nan")]}
    pq.write_table(pa.table(table), tmp_path / "rows.parquet")
    argv = ("import", tmp_path / "rows.parquet", tmp_path / "b", "--id", "key", "--vector", "f0", "f1")
    assert "--table says how its table is called" in ckpt(capsys, *argv)[2]
    status, _, err = ckpt(capsys, *argv, "--table", "words")
    assert status == 1
    assert "rows.parquet: row 1 of table 'words'" in err
    assert not (tmp_path / "b" / "step-00000000").exists()
    assert as_json(capsys, *argv, "--table", "words", "--non-finite", "skip")["rows"] == {"words": 1}
    assert torch.equal(content(tmp_path / "b", "words")[0], hash_strings(["x"]))
    assert "is not there" in ckpt(capsys, "import", tmp_path / "nothing", tmp_path / "b")[2]


@pytest.fixture
def several(tmp_path):
    """Steps 1 to 6 of a small model, with metrics, by a manager."""
    table = HashTable([2], name="t", backend="torch")
    manager = CheckpointManager(tmp_path, None, None, asynchronous=False)
    manager.register(model=table)
    for step, auc in enumerate([0.5, 0.9, 0.6, 0.9, 0.1, 0.2], 1):
        manager.save(step, {"auc": auc})
    manager.close()
    return tmp_path


@pytest.mark.parametrize(
    ("flags", "kept"),
    [
        (("--keep-last", 2), [5, 6]),
        (("--keep-every", 3), [3, 6]),
        (("--keep-best", "auc"), [4, 6]),
        (("--keep-best", "auc:2", "--keep-last", 1), [2, 4, 6]),
        (("--keep-best", "auc:1:min"), [5, 6]),
    ],
)
def test_prune(capsys, several, flags, kept):
    said = as_json(capsys, "prune", several, *flags, "--dry-run")
    assert said == {"removed": [step for step in range(1, 7) if step not in kept], "kept": kept, "dry_run": True}
    assert len(list(several.glob("step-*"))) == 6
    assert as_json(capsys, "prune", several, *flags)["kept"] == kept
    assert [open_checkpoint(path).step for path in sorted(several.glob("step-*"))] == kept
    status, out, _ = ckpt(capsys, "prune", several, *flags)
    assert status == 0
    assert out.startswith("removed 0 checkpoints; kept ")


def test_prune_keeps_what_a_delta_needs(capsys, tmp_path):
    write(tmp_path, step=4)
    write(tmp_path)
    write_delta(tmp_path, 6, 5, block([1, 1000], seed=3), torch.tensor([8]))
    assert as_json(capsys, "prune", tmp_path, "--keep-last", 1)["kept"] == [5, 6]
    assert ckpt(capsys, "verify", tmp_path)[0] == 0
    for flags, told in (
        ((), "say what stays"),
        (("--keep-best", "auc:x"), "METRIC:N"),
        (("--keep-last", 0), "--keep-last"),
    ):
        status, _, err = ckpt(capsys, "prune", tmp_path, *flags)
        assert status == 2
        assert told in err
    assert "holds no checkpoint" in ckpt(capsys, "prune", tmp_path / "nothing", "--keep-last", 1)[2]


def compacting_until(directory, event):
    """Compact in a child that is killed when it reaches the n-th time that it opens, makes, renames or removes something.
    Returns whether it came to its end."""
    child = os.fork()
    if not child:
        left = [event]

        def count(name, args):
            if name.startswith(("open", "os.", "shutil.")) and str(directory) in str(args[:2]):
                left[0] -= 1
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        os._exit(main(["ckpt", "compact", str(directory), "--json"]))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status == 0


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:os.fork:RuntimeWarning")
def test_compact_that_is_killed_at_any_point_leaves_the_chain_or_the_whole(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # a kill loses nothing that the system has
    write(tmp_path)
    write_delta(tmp_path, 6, 5, block([1, 1000], seed=3), torch.tensor([8]))
    before, kinds, event, ended = content(tmp_path), [], 0, False
    while not ended:
        event += 1
        ended = compacting_until(tmp_path, event)
        checkpoint = open_checkpoint(tmp_path)
        checkpoint.verify()
        kinds.append(checkpoint.kind)
        for one, other in zip(before[:2], content(tmp_path)[:2], strict=True):
            assert torch.equal(one, other)
        if checkpoint.kind == "full":
            write(tmp_path)
            write_delta(tmp_path, 6, 5, block([1, 1000], seed=3), torch.tensor([8]))
    assert event > 20
    assert kinds.count("delta") > 10
    assert kinds[-1] == "full"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
