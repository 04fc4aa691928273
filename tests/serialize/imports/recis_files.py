"""A RecIS v1 checkpoint as its description says, written by stock safetensors and json: nothing of ours wrote it.

Two shards, two files each; table "user.id" has dots in its name, table "item" AdamW's slots and a step filter.
"""

import json

import torch
from safetensors.torch import save_file

DIM = 4
BETA2, T = 0.999, 37


def rows_of(ids, seed):
    """[n, DIM], by id alone."""
    return (ids[:, None].double() * 0.001 + torch.arange(DIM) + seed).float()


def blocks(shard, dtype=torch.float32):
    """{key: values} of one shard: even ids in shard 0, odd ones in shard 1."""
    item = torch.tensor([2, 2**40, -6]) if shard == 0 else torch.tensor([7, 2**51 + 1])
    user = torch.tensor([0]) if shard == 0 else torch.zeros(0, dtype=torch.int64)
    end = f"/part_{shard}_2"
    return {
        f"item.id{end}": item,
        f"item.embedding{end}": rows_of(item, 0).to(dtype),
        f"item.step_filter{end}": item[:, None] % 100,
        f"item.sparse_adamw_exp_avg{end}": rows_of(item, 10).to(dtype),
        f"item.sparse_adamw_exp_avg_sq{end}": rows_of(item, 20).to(dtype),
        f"user.id.id{end}": user,
        f"user.id.embedding{end}": torch.full((len(user), 2), 0.5),
    }


def plain():
    return {
        "sparse_adamw_step^ ": torch.zeros(1, dtype=torch.int64),
        "sparse_adamw_beta1^ ": torch.tensor(0.9) ** T,
        "sparse_adamw_beta2^ ": torch.tensor(BETA2) ** T,
    }


def write(path, dtype=torch.float32, change=None):
    """change(blocks of both shards by key) may alter what is written."""
    path.mkdir(parents=True)
    arrays = [blocks(0, dtype) | plain(), blocks(1, dtype)]
    for each in arrays if change is not None else ():
        change(each)
    where = {}
    for shard, mine in enumerate(arrays):
        for i in range(2):
            name = f"model-{shard * 2 + i:06d}-of-000004.safetensors"
            part = dict(list(mine.items())[i::2])
            save_file(part, path / name)
            where |= dict.fromkeys(part, name)
    numbers = {name: n for n, name in enumerate(sorted(set(where.values())))}
    index = {"block_index": {key: numbers[name] for key, name in where.items()}, "file_index": numbers}
    (path / "index").write_text(json.dumps(index))
    return path
