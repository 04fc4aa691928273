"""Joins a state_dict's blocks of columns into the columns that a rank holds.

Sizes: n rows, D dim.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

KEY = re.compile(r"(slices\.\d+-\d+)\.columns\.(\d+)-(\d+)\.(.+)")

Block = dict[str, Tensor]


def joined(state: Mapping[str, Tensor], columns: tuple[int, int]) -> tuple[dict[str, Tensor], list[str]]:
    """(the state with its blocks joined into rows of `columns` [beg, end), keys of missing blocks).

    Raises:
      ValueError: blocks of one table hold different ids, or have other columns than their keys name.
    """
    plain = {key: value for key, value in state.items() if not KEY.fullmatch(key)}
    blocks: dict[str, dict[tuple[int, int], Block]] = {}
    for key, value in state.items():
        if found := KEY.fullmatch(key):
            name, beg, end, part = found.groups()
            blocks.setdefault(name, {}).setdefault((int(beg), int(end)), {})[part] = value
    missing = []
    for name, by_columns in blocks.items():
        gaps = [f"{name}.columns.{beg}-{end}.rows" for beg, end in _gaps(sorted(by_columns), columns)]
        gaps = _lacking(name, by_columns) or gaps
        missing += gaps
        if not gaps:
            plain |= {f"{name}.{part}": value for part, value in _side_by_side(by_columns, columns).items()}
    return plain, missing


def overlap(key: str, columns: tuple[int, int]) -> bool:
    """Whether the entry of this key holds some of the columns [beg, end)."""
    found = KEY.fullmatch(key)
    return found is None or (int(found[2]) < columns[1] and int(found[3]) > columns[0])


def _lacking(name: str, blocks: dict[tuple[int, int], Block]) -> list[str]:
    """Keys that some blocks have and others lack."""
    parts = {"ids", "rows"}.union(*blocks.values())
    return [f"{name}.columns.{beg}-{end}.{p}" for (beg, end), block in blocks.items() for p in sorted(parts - {*block})]


def _check(blocks: dict[tuple[int, int], Block]) -> None:
    for (beg, end), block in blocks.items():
        for part, values in block.items():
            wanted = [len(block["ids"])] if part == "ids" else [len(block["ids"]), end - beg]
            if list(values.shape) != wanted:
                raise ValueError(f"{part} of columns {beg} to {end} must be {wanted}; got {list(values.shape)}.")


def _gaps(have: list[tuple[int, int]], columns: tuple[int, int]) -> list[tuple[int, int]]:
    at, gaps = columns[0], []
    for beg, end in have:
        if at < beg < columns[1]:
            gaps.append((at, beg))
        at = max(at, end)
    return gaps if at >= columns[1] else [*gaps, (at, columns[1])]


def _side_by_side(blocks: dict[tuple[int, int], Block], columns: tuple[int, int]) -> Block:
    _check(blocks)
    first, last = columns
    wanted = sorted(b for b in blocks if b[1] > first and b[0] < last)
    orders = [torch.argsort(blocks[b]["ids"]) for b in wanted]
    ids = [blocks[b]["ids"][order] for b, order in zip(wanted, orders, strict=True)]
    if not ids[0].is_meta and any(not torch.equal(ids[0], other) for other in ids[1:]):
        raise ValueError(f"blocks of columns {wanted} hold different ids; they are not of one saved table.")
    whole: Block = {"ids": ids[0]}
    for part in blocks[wanted[0]]:
        if part != "ids":
            rows = torch.cat([blocks[b][part][order] for b, order in zip(wanted, orders, strict=True)], 1)
            whole[part] = rows[:, first - wanted[0][0] : last - wanted[0][0]].contiguous()
    return whole
