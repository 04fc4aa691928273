"""Blocks of a table's rows that say which they are."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from recis_core.serialize import TableBlock


def block(ids: Iterable[int], salt: float = 0.0, dim: int = 4, dtype: torch.dtype = torch.float32) -> TableBlock:
    """A row is a function of id and salt; slots and marks, too."""
    keys = torch.tensor(list(ids), dtype=torch.int64)
    rows = (keys.float()[:, None] * 0.5 + torch.arange(dim) + salt).to(dtype)
    slots = {"exp_avg": rows.float() * 2, "count": keys.float()[:, None] + salt}
    return TableBlock(keys, rows, slots, {"stamps": (keys % 97).int()})


def by_id(blocks: Iterable[TableBlock]) -> dict[int, tuple]:
    """{id: all that is known of its row}; no id may come twice."""
    found: dict[int, tuple] = {}
    for each in blocks:
        for i, key in enumerate(each.ids.tolist()):
            assert key not in found
            slots = {name: values[i].tolist() for name, values in each.slots.items()}
            found[key] = each.rows[i].tolist(), slots, {name: int(v[i]) for name, v in each.marks.items()}
    return found
