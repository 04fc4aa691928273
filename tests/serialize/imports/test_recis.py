"""RecIS v1 checkpoints: read as described, written as described, refused where they are not whole."""

import json
import struct

import pytest
import torch
from safetensors import safe_open

from recis_core.errors import CorruptCheckpoint, StateMismatch
from recis_core.serialize.imports import (
    RecisCheckpoint,
    finish_recis_checkpoint,
    recis_source,
    write_recis_checkpoint,
    write_recis_shard,
)
from tests.serialize.imports import recis_files

FILE = "model-000000-of-000004.safetensors"


@pytest.fixture
def there(tmp_path):
    return recis_files.write(tmp_path / "ckpt_37")


def joined(table, **how):
    """One block of all rows, by id."""
    found = list(table.blocks(2, **how))
    ids, order = torch.cat([block.ids for block in found]).sort()
    slots = {name: torch.cat([block.slots[name] for block in found])[order] for name in found[0].slots}
    marks = {name: torch.cat([block.marks[name] for block in found])[order] for name in found[0].marks}
    return ids, torch.cat([block.rows for block in found])[order], slots, marks


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tables_slots_and_t(tmp_path, dtype):
    source = recis_source(recis_files.write(tmp_path / "ckpt", dtype))
    assert list(source.tables) == ["item", "user.id"]
    item = source.tables["item"]
    assert (item.dim, item.dtype, item.t, item.ignored) == (recis_files.DIM, dtype, recis_files.T, ())
    ids, rows, slots, marks = joined(item)
    assert ids.tolist() == [-6, 2, 7, 2**40, 2**51 + 1]
    assert torch.equal(rows, recis_files.rows_of(ids, 0).to(dtype))
    assert torch.equal(slots["m"], recis_files.rows_of(ids, 10).to(dtype).float())
    assert torch.equal(slots["v"], recis_files.rows_of(ids, 20).to(dtype).float())
    assert marks["stamps"].dtype == torch.int32
    assert torch.equal(marks["stamps"].long(), ids % 100)
    user = source.tables["user.id"]
    assert user.t is None
    assert joined(user)[0].tolist() == [0]


def test_a_power_too_small_for_floats(tmp_path):
    def change(arrays):
        if "sparse_adamw_beta2^ " in arrays:
            arrays["sparse_adamw_beta2^ "] = torch.zeros(1)

    source = recis_source(recis_files.write(tmp_path / "ckpt", change=change))
    t = source.tables["item"].t
    assert 0.999**t < 2.0**-148
    assert t == pytest.approx(103_228, abs=2)


def test_the_newest_of_an_output_directory_and_its_dense_side(tmp_path):
    recis_files.write(tmp_path / "ckpt_10")
    newest = recis_files.write(tmp_path / "ckpt_20")
    (tmp_path / "checkpoint").write_text("ckpt_10\nckpt_20\n")
    torch.save({"tower.weight": torch.ones(2, 3), "note": "text"}, newest / "model.pt")
    torch.save({"global_step": torch.tensor(20)}, newest / "extra.pt")
    source = recis_source(tmp_path)
    assert (source.name, source.step) == (str(newest), 20)
    assert source.dense()["tower.weight"].shape == (2, 3)
    assert list(source.dense()) == ["tower.weight"]
    (tmp_path / "checkpoint").write_text("../elsewhere\n")
    with pytest.raises(CorruptCheckpoint, match="name of a checkpoint beside it"):
        recis_source(tmp_path)


class Evil:
    def __reduce__(self):
        return print, ("code ran",)


def test_pickles_never_run(there, capsys):
    torch.save({"tower.weight": torch.ones(1), "evil": Evil()}, there / "model.pt")
    with pytest.raises(CorruptCheckpoint, match=r"model\.pt cannot be read as tensors and plain values"):
        recis_source(there).dense()
    torch.save({"global_step": torch.tensor(5), "reader": Evil()}, there / "extra.pt")
    assert recis_source(there).step is None
    assert capsys.readouterr().out == ""


def test_read_by_name(there):
    checkpoint = RecisCheckpoint(there)
    assert checkpoint.tensor_names() == [
        "item@embedding", "item@id", "item@sparse_adamw_exp_avg", "item@sparse_adamw_exp_avg_sq", "item@step_filter",
        "sparse_adamw_beta1", "sparse_adamw_beta2", "sparse_adamw_step", "user.id@embedding", "user.id@id",
    ]  # fmt: skip
    assert checkpoint.read_tensor("item@id").tolist() == [2, 2**40, -6, 7, 2**51 + 1]
    assert checkpoint.tensor_shape("item@embedding") == [5, 4]
    assert checkpoint.tensor_dtype("item@step_filter") == torch.int64
    assert checkpoint.tensor_shape("sparse_adamw_beta2") == []
    assert checkpoint.read_tensor("sparse_adamw_beta1") == torch.tensor(0.9) ** 37
    with pytest.raises(KeyError, match="has no tensor 'item@m'"):
        checkpoint.read_tensor("item@m")


def test_the_first_of_repeated_ids(tmp_path, caplog):
    def change(arrays):
        if "item.id/part_1_2" in arrays:
            arrays["item.id/part_1_2"] = torch.tensor([2, 7])

    ids, rows, _, _ = joined(recis_source(recis_files.write(tmp_path / "ckpt", change=change)).tables["item"])
    assert ids.tolist() == [-6, 2, 7, 2**40]
    assert torch.equal(rows[1], recis_files.rows_of(torch.tensor([2]), 0)[0])
    assert "1 rows have the id of an earlier row" in caplog.text


def test_nan_is_refused_left_out_or_kept(tmp_path):
    def change(arrays):
        if "item.sparse_adamw_exp_avg/part_1_2" in arrays:
            arrays["item.sparse_adamw_exp_avg/part_1_2"][1, 3] = float("nan")

    table = recis_source(recis_files.write(tmp_path / "ckpt", change=change)).tables["item"]
    with pytest.raises(StateMismatch) as refused:
        list(table.blocks(1))
    said = str(refused.value)
    assert "ckpt/model-00000" in said
    assert f"row 1 of table 'item', id {2**51 + 1}, holds NaN" in said
    assert joined(table, non_finite="skip")[0].tolist() == [-6, 2, 7, 2**40]
    assert joined(table, non_finite="keep")[2]["m"].isnan().sum() == 1
    with pytest.raises(ValueError, match="non_finite must be refuse, skip, keep; got 'drop'"):
        table.blocks(non_finite="drop")


def test_slots_of_no_optimizer_here_and_of_two(tmp_path):
    def foreign(arrays):
        for key in [key for key in arrays if "exp_avg/" in key]:
            arrays[key.replace("sparse_adamw_exp_avg", "accumulated")] = arrays[key].clone()

    assert recis_source(recis_files.write(tmp_path / "one", change=foreign)).tables["item"].ignored == ("accumulated",)

    def two(arrays):
        for key in [key for key in arrays if "exp_avg" in key]:
            arrays[key.replace("adamw", "adam")] = arrays[key] + 1

    path = recis_files.write(tmp_path / "two", change=two)
    with pytest.raises(StateMismatch, match='several optimizers: sparse_adam, sparse_adamw.*optimizer="sparse_adam"'):
        recis_source(path)
    ids, _, slots, _ = joined(recis_source(path, optimizer="sparse_adam").tables["item"])
    assert torch.equal(slots["m"], recis_files.rows_of(ids, 10) + 1)


def test_not_whole(there):
    (there / "index").rename(there / "kept")
    with pytest.raises(CorruptCheckpoint, match=r"has no 'index'.*not written to its end"):
        recis_source(there)
    index = json.loads((there / "kept").read_text())
    for change, told in (
        (lambda i: i["block_index"].pop("item.id/part_1_2"), "does not name all parts of item@id"),
        (lambda i: i["block_index"].update({"item.id/part_1_2": 99}), "KeyError"),
        (lambda i: i["file_index"].update({"../../secret": 0}), "no model-"),
        (lambda i: i.pop("file_index"), "file_index"),
    ):
        changed = json.loads(json.dumps(index))
        change(changed)
        (there / "index").write_text(json.dumps(changed))
        with pytest.raises(CorruptCheckpoint, match=told):
            recis_source(there)
    (there / "index").write_text("[" * 100_000)
    with pytest.raises(CorruptCheckpoint, match="index cannot be read"):
        recis_source(there)


def test_damaged_files_are_named(there):
    path = there / FILE
    data = path.read_bytes()
    for damage in (data[:-1], data[:40], b"", struct.pack("<Q", 10**9) + data[8:], struct.pack("<Q", 2**63) + data[8:]):
        path.write_bytes(damage)
        with pytest.raises(CorruptCheckpoint, match=FILE):
            recis_source(there)
    path.unlink()
    with pytest.raises(CorruptCheckpoint, match=f"lacks {FILE}"):
        recis_source(there)
    elsewhere = there.parent / "elsewhere"
    elsewhere.write_bytes(data)
    path.symlink_to(elsewhere)
    with pytest.raises(CorruptCheckpoint, match="is a link"):
        recis_source(there)


def test_slots_that_do_not_fit(tmp_path):
    def shorter(arrays):
        for key in [key for key in arrays if key.startswith("item.embedding")]:
            arrays[key] = arrays[key][1:].clone()

    with pytest.raises(StateMismatch, match="n rows in each slot"):
        list(recis_source(recis_files.write(tmp_path / "short", change=shorter)).tables["item"].blocks())

    def lacking(arrays):
        for key in [key for key in arrays if key.startswith("user.id.embedding")]:
            del arrays[key]

    with pytest.raises(StateMismatch, match=r"table 'user.id' lacks \['embedding'\]"):
        recis_source(recis_files.write(tmp_path / "lacking", change=lacking))


TABLES = {
    "item": {
        "id": torch.arange(-5, 70_000, 9_973),
        "embedding": torch.randn(8, 3),
        "step_filter": torch.arange(8)[:, None],
    },
    "a.b": {"embedding": torch.ones(1, 2).bfloat16(), "id": torch.tensor([2**52 - 1])},
}


@pytest.mark.parametrize("shards", [1, 3])
def test_written_as_described(tmp_path, shards):
    tensors = {"sparse_adamw_beta2": torch.tensor(0.5)}
    path = write_recis_checkpoint(tmp_path / "ckpt", TABLES, tensors, shards=shards, parallel=2)
    index = json.loads((path / "index").read_text())
    keys = json.loads((path / "tensorkey.json").read_text())
    assert keys[f"item.id/part_0_{shards}"] == (
        "item@id^00000@65536@65536" if shards == 1 else "item@id^00000@21846@65536"
    )
    assert index["block_index"].keys() == keys.keys() | {"sparse_adamw_beta2^ "}
    names = {number: name for name, number in index["file_index"].items()}
    for key, number in index["block_index"].items():
        with safe_open(path / names[number], "pt") as file:  # stock safetensors
            assert key in file.keys()  # noqa: SIM118
            assert file.metadata() is None
    described = json.loads((path / "torch_rank_weights_embs_table_multi_shard.json").read_text())
    assert described["sparse_adamw_beta2^ "] == {
        "dtype": "float32", "shape": [], "dense": True, "name": "sparse_adamw_beta2", "dimension": 0, "is_hashmap": False
    }  # fmt: skip
    rows = described[f"a.b.embedding/part_0_{shards}"]
    assert (rows["hashmap_key"], rows["dtype"], rows["dimension"]) == (f"a.b.id/part_0_{shards}", "bfloat16", 2)
    assert described[f"item.step_filter/part_0_{shards}"]["dtype"] == "I64"
    source = recis_source(path)
    for name, slots in TABLES.items():
        ids, found, _, _ = joined(source.tables[name])
        order = slots["id"].argsort()
        assert torch.equal(ids, slots["id"][order])
        assert torch.equal(found, slots["embedding"][order])
    assert RecisCheckpoint(path).read_tensor("sparse_adamw_beta2") == 0.5


def test_described_offsets_are_those_of_the_file(tmp_path):
    path = write_recis_checkpoint(tmp_path / "ckpt", TABLES, parallel=1)
    described = json.loads((path / "torch_rank_weights_embs_table_multi_shard.json").read_text())
    data = (path / "model-000000-of-000001.safetensors").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    for key, form in described.items():
        if "data_offsets" in form:
            assert form["data_offsets"] == header[key]["data_offsets"]


def test_ranks_write_their_shards(tmp_path):
    ids = TABLES["item"]["id"]
    shares = [(ids % 65_536 < 32_768), (ids % 65_536 >= 32_768)]
    wrote = [
        write_recis_shard(tmp_path, {"item": {n: v[mine] for n, v in TABLES["item"].items()}}, {}, rank, 2, 4)
        for rank, mine in enumerate(shares)
    ]
    with pytest.raises(CorruptCheckpoint, match="has no 'index'"):
        recis_source(tmp_path)
    finish_recis_checkpoint(tmp_path, [type(each)(**json.loads(json.dumps(each.to_dict()))) for each in wrote])
    assert joined(recis_source(tmp_path).tables["item"])[0].tolist() == ids.sort().values.tolist()


def test_what_the_format_cannot_hold(tmp_path):
    item = TABLES["item"]
    for tables, tensors, told in (
        ({"a@b": item}, {}, "must hold no @ and no"),
        ({"item": {"id": item["id"]}}, {}, r"lacks \['embedding'\]"),
        ({"item": item | {"step.filter": item["step_filter"]}}, {}, "none of"),
        ({"item": item | {"embedding": item["embedding"][1:]}}, {}, "a row for each of 8 ids"),
        ({"item": item | {"id": item["id"].int()}}, {}, "must be int64"),
        ({}, {"flags": torch.ones(2, dtype=torch.bool)}, "Cast it first"),
        ({}, {"a^b": torch.ones(2)}, "plain tensor's name"),
    ):
        with pytest.raises(ValueError, match=told):
            write_recis_checkpoint(tmp_path / "ckpt", tables, tensors)
    with pytest.raises(TypeError, match="must be a tensor; got list"):
        write_recis_checkpoint(tmp_path / "ckpt", {}, {"a": [1.0]})
    assert list(tmp_path.iterdir()) == []
    write_recis_checkpoint(tmp_path / "ckpt", TABLES)
    with pytest.raises(FileExistsError):
        write_recis_checkpoint(tmp_path / "ckpt", TABLES)
