"""Tensors that FSDP2 has sharded: each rank saves its block, and reads the blocks that overlap its own; none is gathered.

part dense                  {"weight": $sharded ["/weight", "F32", [8, 4]]}
part dense.shards.rank-0    {"/weight": {"offsets": [0, 0], "values": rows 0 to 3}}
part dense.shards.rank-1    {"/weight": {"offsets": [4, 0], "values": rows 4 to 7}}
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from recis_core.backends.errors import CorruptCheckpoint
from recis_core.serialize.checkpoint.checkpoint import Checkpoint
from recis_core.serialize.dense import as_placed
from recis_core.serialize.part_file import DTYPES, NAMES
from recis_core.serialize.shared_state import by_rank
from recis_core.serialize.tree import Sharded

SHARDS = ".shards"  # ends the name of a part of blocks


@dataclass(frozen=True)
class Region:
    """A block of a tensor: where it begins, and its shape."""

    offsets: tuple[int, ...]
    shape: tuple[int, ...]

    def within(self, other: Region) -> tuple[tuple[slice, ...], tuple[slice, ...]] | None:
        """What both have, as slices of self and of other; None if nothing."""
        begins = [max(a, b) for a, b in zip(self.offsets, other.offsets, strict=True)]
        ends = [
            min(a + n, b + m) for a, n, b, m in zip(self.offsets, self.shape, other.offsets, other.shape, strict=True)
        ]
        if any(end <= begin for begin, end in zip(begins, ends, strict=True)):
            return None
        pairs = list(zip(begins, ends, strict=True))
        mine = tuple(slice(b - o, e - o) for (b, e), o in zip(pairs, self.offsets, strict=True))
        theirs = tuple(slice(b - o, e - o) for (b, e), o in zip(pairs, other.offsets, strict=True))
        return mine, theirs


def is_sharded(value: Any) -> bool:
    """Whether it is a DTensor, of which ranks may have blocks."""
    if not isinstance(value, Tensor) or type(value) in (Tensor, nn.Parameter, nn.Buffer):
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(value, DTensor)


def region_of(tensor: Any) -> Region:
    """The block of a DTensor that this rank has."""
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    shape, offsets = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    return Region(tuple(offsets), tuple(shape))


def without_shards(tree: Any, shards: dict[str, Any], path: str = "") -> Any:
    """The tree with a Sharded in place of each DTensor; this rank's blocks go into `shards`, by path.

    A block that several ranks have is saved by the first of them.
    """
    if isinstance(tree, Mapping):
        return {name: without_shards(value, shards, f"{path}/{name}") for name, value in tree.items()}
    if type(tree) in (list, tuple):
        return type(tree)(without_shards(value, shards, f"{path}/{i}") for i, value in enumerate(tree))
    if not is_sharded(tree):
        return tree
    if _is_first(tree):
        shards[path] = {"offsets": list(region_of(tree).offsets), "values": tree.to_local()}
    return Sharded(path, NAMES[tree.dtype], tuple(tree.shape))


def _is_first(tensor: Any) -> bool:
    """Whether this rank is the first in each dimension of the mesh along which blocks are repeated."""
    from torch.distributed.tensor import Partial

    if any(isinstance(placement, Partial) for placement in tensor.placements):
        raise TypeError("a DTensor that is a sum over ranks cannot be saved; redistribute it first.")
    where = tensor.device_mesh.get_coordinate()
    return all(place == 0 for place, kind in zip(where, tensor.placements, strict=True) if not kind.is_shard())


def read_blocks(checkpoint: Checkpoint, part: str, wanted: Mapping[str, tuple[Sharded, Region]]) -> dict[str, Tensor]:
    """The wanted block of each tensor, by path; one rank's file is in memory at a time.

    Raises:
      CorruptCheckpoint: blocks are missing, or of another dtype or shape.
    """
    made = {path: torch.empty(region.shape, dtype=DTYPES[whole.dtype]) for path, (whole, region) in wanted.items()}
    filled = dict.fromkeys(wanted, 0)
    for name in by_rank(checkpoint.parts, part + SHARDS) if wanted else ():
        saved = checkpoint.part(name)
        for path in wanted.keys() & saved.keys():
            filled[path] += _copy(made[path], wanted[path], saved[path], f"{checkpoint.file_of(name)}: {path}")
    lacking = [path for path, values in made.items() if filled[path] != values.numel()]
    if lacking:
        raise CorruptCheckpoint(
            f"{checkpoint.path} lacks blocks of {', '.join(lacking[:5])} in its parts {part}{SHARDS}."
        )
    return made


def _copy(made: Tensor, wanted: tuple[Sharded, Region], saved: Any, where: str) -> int:
    """Copy what a saved block has of a wanted one; returns how many elements."""
    whole, region = wanted
    values, offsets = saved["values"], saved["offsets"]
    fits = isinstance(values, Tensor) and values.dtype == made.dtype and values.dim() == len(whole.shape)
    fits = fits and isinstance(offsets, list) and len(offsets) == values.dim()
    if not fits or any(
        type(o) is not int or not 0 <= o <= w - n for o, n, w in zip(offsets, values.shape, whole.shape, strict=True)
    ):
        raise CorruptCheckpoint(f"{where} is no block of a tensor {list(whole.shape)}.")
    common = region.within(Region(tuple(offsets), tuple(values.shape)))
    if common is None:
        return 0
    made[common[0]] = values[common[1]]
    return math.prod(made[common[0]].shape)


def read_wanted(checkpoint: Checkpoint, part: str, pairs: Iterable[tuple[Tensor, Any]]) -> Callable[[Tensor, Any], Any]:
    """Read what this rank needs of saved values for its tensors; returns what gives (its tensor, saved value) as placed.

    pairs: (tensor here, saved value). A saved value that is no tensor, or whole and wanted whole, is given back.
    """
    wanted = {saved.name: (saved, _region_here(mine, saved)) for mine, saved in pairs if isinstance(saved, Sharded)}
    blocks = read_blocks(checkpoint, part, wanted)

    def placed(mine: Tensor, saved: Any) -> Any:
        if isinstance(saved, Sharded):
            return _like(mine, saved, blocks[saved.name])
        if isinstance(saved, Tensor) and is_sharded(mine) and saved.shape == mine.shape:
            return as_placed(mine, saved)
        return saved

    return placed


def _like(mine: Tensor, whole: Sharded, block: Tensor) -> Tensor:
    """A block as a tensor placed as `mine` is."""
    if not is_sharded(mine):
        return block
    from torch.distributed.tensor import DTensor

    like: Any = mine
    stride = torch.empty(whole.shape, device="meta").stride()
    return DTensor.from_local(
        block.to(like.device), like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=stride
    )


def _region_here(mine: Tensor, whole: Sharded) -> Region:
    """What this rank needs of a saved tensor for `mine`, which has its shape."""
    if is_sharded(mine) and tuple(mine.shape) == whole.shape:
        return region_of(mine)
    return Region((0,) * len(whole.shape), whole.shape)
