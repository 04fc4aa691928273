"""recis ckpt reshard --ranks: files as so many ranks would have written them, and the same rows in them."""

import json

import pytest
import torch

from recis_core.cli import main
from recis_core.exchange.owners import Owners
from recis_core.options.sharding import Sharding
from recis_core.serialize import TableBlock, new_checkpoint, open_checkpoint, state_source
from recis_core.table.uid import uid

N, D = 400, 6


@pytest.fixture
def saved(tmp_path):
    """Two tables of many files, by one process; the second without slots."""
    torch.manual_seed(0)
    ids = torch.randperm(10 * N)[:N] - 5 * N
    with new_checkpoint(tmp_path / "saved", 3, file_bytes=4000) as writer:
        for name, slots in (("item", {"m": torch.randn(N, D)}), ("user", {})):
            block = TableBlock(ids, torch.randn(N, D), slots, {"stamps": ids.int()})
            writer.table(name, [block], dim=D)
        writer.part("dense", {"w": torch.ones(2)})
        writer.part("data.rank-0", {"at": 5})
    return tmp_path / "saved"


def reshard(capsys, *argv):
    status = main(["ckpt", "reshard", *map(str, argv)])
    return status, capsys.readouterr()


def equal(capsys, a, b):
    assert main(["ckpt", "diff", str(a), str(b), "--json"]) == 0
    return json.loads(capsys.readouterr().out)["equal"]


def of_ranks(path, table):
    """{rank: its parts' values} of a table's files, by their names."""
    checkpoint, found = open_checkpoint(path), {}
    for group in checkpoint.manifest.head.tables[table].files:
        for part in group:
            found.setdefault(int(part.rpartition(".rank-")[2].split(".")[0]), []).append(part)
    return {
        rank: sum(int(checkpoint.manifest.parts[p].tensors["/ids"][1][0]) for p in parts)
        for rank, parts in found.items()
    }


@pytest.mark.parametrize("ranks", [1, 2, 7])
def test_each_rank_has_the_rows_that_it_owns(capsys, saved, tmp_path, ranks):
    status, said = reshard(capsys, saved, tmp_path / "out", "--ranks", ranks, "--file-size", "2kB")
    assert status == 0
    assert f"in files of {ranks} ranks" in said.out
    owners = Owners([Sharding()], [uid("item")], ranks)
    checkpoint = open_checkpoint(tmp_path / "out")
    files = checkpoint.manifest.head.tables["item"].files
    assert len(files) > ranks
    for (part,), (block, _) in zip(files, checkpoint.pieces("item"), strict=True):
        rank = int(part.rpartition(".rank-")[2].split(".")[0])
        assert len(block.ids)
        assert (owners.of_ids(block.ids, torch.zeros(len(block.ids), dtype=torch.int32)) == rank).all()
    assert sorted(of_ranks(tmp_path / "out", "item")) == list(range(ranks))
    assert equal(capsys, saved, tmp_path / "out")
    assert checkpoint.part("data.rank-0") == {"at": 5}
    checkpoint.verify()


def test_columns_and_whole_tables(capsys, saved, tmp_path):
    how = ("--ranks", 2, "--sharding", "it*=column", "table:1", "--file-size", "6kB")
    assert reshard(capsys, saved, tmp_path / "out", *how)[0] == 0
    checkpoint = open_checkpoint(tmp_path / "out")
    groups = checkpoint.manifest.head.tables["item"].files
    assert len(groups) > 1
    widths = [[checkpoint.manifest.parts[part].tensors["/rows"][1][1] for part in group] for group in groups]
    assert widths == [[4, 2]] * len(groups)
    assert of_ranks(tmp_path / "out", "user") == {1: N}
    assert equal(capsys, saved, tmp_path / "out")
    assert reshard(capsys, tmp_path / "out", tmp_path / "back", "--ranks", 1)[0] == 0
    assert equal(capsys, saved, tmp_path / "back")
    one, other = (next(iter(state_source(path).tables["item"].blocks())) for path in (saved, tmp_path / "back"))
    assert one.marks.keys() == other.marks.keys() == {"stamps"}


@pytest.mark.parametrize(
    ("flags", "status", "told"),
    [
        (("--sharding", "row"), 2, "--ranks says how many there are"),
        (("--ranks", 0), 2, "--ranks"),
        (("--ranks", 2, "--sharding", "rows"), 2, "sharding must read row"),
        (("--ranks", 2, "--sharding", "table:2"), 2, "owner 2 is none of 2 ranks"),
        (
            ("--ranks", 2, "--sharding", "goods=row"),
            1,
            "--sharding goods: no such table is written; there are item, user",
        ),
        (("--ranks", 4, "--sharding", "column"), 1, "needs embedding_dim of at least 7; got 6"),
    ],
)
def test_what_cannot_be(capsys, saved, tmp_path, flags, status, told):
    found, said = None, None
    try:
        found, said = reshard(capsys, saved, tmp_path / "out", *flags)
    except SystemExit as stop:
        found, said = stop.code, capsys.readouterr()
    assert found == status
    assert told in said.err
    assert not (tmp_path / "out" / "step-00000003").exists()


def test_slots_narrower_than_rows_are_not_cut(capsys, tmp_path):
    with new_checkpoint(tmp_path / "a", 1) as writer:
        writer.table("t", [TableBlock(torch.arange(3), torch.ones(3, 4), {"sum": torch.ones(3, 1)})], dim=4)
    status, said = reshard(capsys, tmp_path / "a", tmp_path / "b", "--ranks", 2, "--sharding", "column")
    assert status == 1
    assert "slot 'sum' of 1 columns beside rows of 4" in said.err
