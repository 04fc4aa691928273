"""TorchRec's state_dicts, in a dict, a file, and directories of torch.distributed.checkpoint; TorchRec is not installed."""

import pickle
import warnings

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import FileSystemReader
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata

from recis_core.errors import CorruptCheckpoint, StateMismatch
from recis_core.serialize.imports import torchrec_source

N, D = 9, 4
ITEM = "sparse.ebc.embedding_bags.item.weight"
USER = "sparse.ec.embeddings.user.weight"


def model():
    torch.manual_seed(0)
    return {ITEM: torch.randn(N, D), USER: torch.randn(5, 2, dtype=torch.float16), "over.0.weight": torch.randn(2, D)}


def optimizer():
    """As a fused row-wise Adagrad keeps its state; the user's table has Adam's."""
    return {
        "state": {
            ITEM: {"item.momentum1": torch.rand(N)},
            USER: {
                "user.momentum1": torch.rand(5, 2),
                "user.exp_avg_sq": torch.rand(5, 2),
                "user.row_counter": torch.ones(5),
            },
        },
        "param_groups": [{"lr": 0.1, "params": [ITEM]}],
    }


def joined(table, rows=2):
    found = list(table.blocks(rows))
    slots = {name: torch.cat([block.slots[name] for block in found]) for name in found[0].slots}
    return torch.cat([block.ids for block in found]), torch.cat([block.rows for block in found]), slots


def saved(path, state):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
        dcp.save(state, checkpoint_id=path)
    return path


@pytest.mark.parametrize("kind", ["dict", "file", "dcp"])
def test_tables_slots_and_the_dense_side(tmp_path, kind):
    whole = {"model": model(), "optimizer": optimizer()}
    given = whole
    if kind == "file":
        torch.save(whole, tmp_path / "model.pt")
        given = tmp_path / "model.pt"
    elif kind == "dcp":
        given = saved(tmp_path / "dcp", whole)
    source = torchrec_source(given, t=7)
    assert list(source.tables) == ["item", "user"]
    item, user = source.tables.values()
    assert (item.dim, item.dtype, item.t, user.dtype) == (D, torch.float32, 7, torch.float16)
    ids, rows, slots = joined(item)
    assert ids.tolist() == list(range(N))
    assert torch.equal(rows, whole["model"][ITEM])
    assert torch.equal(slots.pop("sum")[:, 0], whole["optimizer"]["state"][ITEM]["item.momentum1"])
    assert slots == {}
    _, rows, slots = joined(user)
    assert torch.equal(rows, whole["model"][USER])
    assert torch.equal(slots["m"], whole["optimizer"]["state"][USER]["user.momentum1"])
    assert torch.equal(slots["v"], whole["optimizer"]["state"][USER]["user.exp_avg_sq"])
    assert user.ignored == ("row_counter",)
    assert list(source.dense()) == ["over.0.weight"]
    assert torch.equal(source.dense()["over.0.weight"], whole["model"]["over.0.weight"])


def test_a_bare_state_dict_and_the_kind_of_momentum1():
    assert list(torchrec_source(model()).dense()) == ["over.0.weight"]
    whole = {**model(), "optimizer": {"state": {ITEM: {"item.momentum1": torch.rand(N, D)}}}}
    assert list(joined(torchrec_source(whole).tables["item"])[2]) == ["sum"]
    assert list(joined(torchrec_source(whole, momentum1="momentum").tables["item"])[2]) == ["momentum"]
    with pytest.raises(ValueError, match='momentum1 must be "sum" or "momentum"; got \'m\''):
        torchrec_source(whole, momentum1="m")


def test_what_is_no_such_state(tmp_path):
    with pytest.raises(StateMismatch, match=r"no key ends in embedding_bags\.TABLE\.weight.*It has tower\.weight"):
        torchrec_source({"tower.weight": torch.ones(2)})
    twice = {"a.embedding_bags.item.weight": torch.ones(2, 2), "b.embeddings.item.weight": torch.ones(2, 2)}
    with pytest.raises(StateMismatch, match=r"several tables 'item': a\.embedding_bags.*prefix="):
        torchrec_source(twice)
    assert list(torchrec_source(twice, prefix="b.").tables) == ["item"]
    with pytest.raises(StateMismatch, match=r"must be floats \[n, dim\]; got torch.int64"):
        torchrec_source({ITEM: torch.ones(2, 2).long()})
    with pytest.raises(StateMismatch, match=r"is a Tensor on meta; wanted a plain tensor.*dcp\.save"):
        torchrec_source({ITEM: torch.empty(2, 2, device="meta")})
    with pytest.raises(FileNotFoundError, match="neither a file of torch.save nor a directory"):
        torchrec_source(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="holds no whole checkpoint"):
        torchrec_source(tmp_path)
    torch.save([1], tmp_path / "list.pt")
    with pytest.raises(StateMismatch, match="holds a list; wanted a state_dict"):
        torchrec_source(tmp_path / "list.pt")


class Evil:
    def __reduce__(self):
        return print, ("code ran",)


def test_files_never_run_code(tmp_path, capsys):
    torch.save({ITEM: torch.ones(2, 2), "evil": Evil()}, tmp_path / "model.pt")
    with pytest.raises(CorruptCheckpoint, match=r"model\.pt cannot be read as tensors and plain values"):
        torchrec_source(tmp_path / "model.pt")
    data = (tmp_path / "model.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(CorruptCheckpoint, match=r"cut\.pt"):
        torchrec_source(tmp_path / "cut.pt")
    path = saved(tmp_path / "dcp", model())
    (path / ".metadata").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CorruptCheckpoint, match=r"\.metadata cannot be read: it names builtins\.print"):
        torchrec_source(path)
    assert capsys.readouterr().out == ""


def test_a_directory_that_leads_elsewhere_or_is_damaged(tmp_path):
    path = saved(tmp_path / "dcp", model())
    whole = (path / ".metadata").read_bytes()
    (path / ".metadata").write_bytes(whole.replace(b"__0_0.distcp", b"../../.x.dcp"))
    with pytest.raises(CorruptCheckpoint, match="which is no file beside it"):
        torchrec_source(path)
    (path / ".metadata").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptCheckpoint, match=r"\.metadata cannot be read"):
        torchrec_source(path)
    (path / ".metadata").write_bytes(whole)
    data = (path / "__0_0.distcp").read_bytes()
    (path / "__0_0.distcp").write_bytes(data[:100])
    with pytest.raises(CorruptCheckpoint, match=f"{ITEM}' cannot be read"):
        list(torchrec_source(path).tables["item"].blocks())
    (path / "__0_0.distcp").unlink()
    with pytest.raises(CorruptCheckpoint, match="cannot be read"):
        list(torchrec_source(path).tables["item"].blocks())
    (tmp_path / "kept").write_bytes(data)
    (path / "__0_0.distcp").symlink_to(tmp_path / "kept")
    with pytest.raises(CorruptCheckpoint, match="or a link"):
        torchrec_source(path)


def test_slices_of_rows_and_of_columns(tmp_path):
    """As several ranks leave them: rows in two slices, the slot's edge elsewhere, columns in two blocks."""
    whole = {"model": model(), "optimizer": optimizer()}
    path = saved(tmp_path / "dcp", whole)
    metadata = FileSystemReader(path).read_metadata()
    cut_up(metadata, f"model.{ITEM}", [((0, 0), (4, 4)), ((4, 0), (5, 2)), ((4, 2), (5, 2))], path)
    cut_up(metadata, f"optimizer.state.{ITEM}.item.momentum1", [((0,), (6,)), ((6,), (3,))], path)
    (path / ".metadata").write_bytes(pickle.dumps(metadata))
    item = torchrec_source(path).tables["item"]
    assert [(piece.begin, piece.end) for piece in item.pieces] == [(0, 4), (4, 6), (6, 9)]
    ids, rows, slots = joined(item, rows=3)
    assert ids.tolist() == list(range(N))
    assert torch.equal(rows, whole["model"][ITEM])
    assert torch.equal(slots["sum"][:, 0], whole["optimizer"]["state"][ITEM]["item.momentum1"])
    metadata.state_dict_metadata[f"model.{ITEM}"].chunks.pop()
    (path / ".metadata").write_bytes(pickle.dumps(metadata))
    with pytest.raises(CorruptCheckpoint, match="does not say where all of"):
        list(torchrec_source(path).tables["item"].blocks())


def cut_up(metadata, key, boxes, path):
    """Save the tensor anew as slices, each in a file of its own, as ranks do."""
    [old] = [index for index in metadata.storage_data if index.fqn == key]
    info = metadata.storage_data.pop(old)
    with open(path / info.relative_path, "rb") as file:
        file.seek(info.offset)
        (path / "one.pt").write_bytes(file.read(info.length))
    value = torch.load(path / "one.pt", weights_only=True)
    metadata.state_dict_metadata[key].chunks.clear()
    for n, (offsets, sizes) in enumerate(boxes):
        name = f"{key.replace('.', '_')}_{n}.distcp"
        torch.save(value[tuple(slice(o, o + s) for o, s in zip(offsets, sizes, strict=True))].clone(), path / name)
        metadata.state_dict_metadata[key].chunks.append(ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes)))
        place = type(info)(name, 0, (path / name).stat().st_size)
        metadata.storage_data[type(old)(key, torch.Size(offsets), n)] = place
