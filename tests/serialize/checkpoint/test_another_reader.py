"""A reader written from docs/checkpoint-format.md alone, beside ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from safetensors.torch import load

from recis_core.serialize import new_checkpoint, open_checkpoint
from tests.serialize.checkpoint.blocks import block
from tests.serialize.states import STATE, same


class Reader:
    def __init__(self, directory: Path) -> None:
        data = (directory / "manifest.json").read_bytes()
        self.directory, self.manifest = directory, json.loads(data)
        assert self.manifest["format"] == 3
        assert xxhash.xxh3_128_hexdigest(data[:-50]) == self.manifest["xxh3_128"]

    def part(self, name: str) -> Any:
        part = self.manifest["parts"][name]
        data = (self.directory / self.manifest["folder"] / f"{name}.safetensors").read_bytes()
        assert (len(data), xxhash.xxh3_128_hexdigest(data)) == (part["bytes"], part["xxh3_128"])
        return value(part["tree"], load(data))

    def rows(self, table: str) -> dict[int, np.ndarray]:
        entry, found = self.manifest["tables"][table], {}
        if not entry["whole"]:
            base = Reader(self.directory.parent / f"step-{self.manifest['base']['step']:08d}")
            assert base.manifest["xxh3_128"] == self.manifest["base"]["xxh3_128"]
            found = base.rows(table)
        for names in entry["files"]:
            blocks = [self.part(name) for name in names]
            for gone in blocks[0]["erased"].tolist():
                found.pop(gone, None)
            rows = np.concatenate([each["rows"].float().numpy() for each in blocks], 1)
            found |= dict(zip(blocks[0]["ids"].tolist(), rows, strict=True))
        return found


def value(tree: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(tree, list):
        return [value(each, tensors) for each in tree]
    if not isinstance(tree, dict):
        return tree
    ((kind, inner),) = tree.items()
    if kind == "$tensor":
        return tensors[inner[0]]
    if kind == "$float":
        return float(inner)
    if kind == "$tuple":
        return tuple(value(inner, tensors))
    return {value(k, tensors): value(v, tensors) for k, v in inner}


def test_it_reads_what_ours_reads(tmp_path: Path) -> None:
    with new_checkpoint(tmp_path, 3, file_bytes=2000) as writer:
        writer.table("a/b", [block(range(300))], dim=4)
        writer.part("dense", STATE)
    ours, theirs = open_checkpoint(tmp_path), Reader(tmp_path / "step-00000003")
    assert same(theirs.part("dense"), ours.part("dense"))
    same_rows(ours, theirs, "a/b")


def same_rows(ours: Any, theirs: Reader, table: str) -> None:
    wanted = {int(i): row for each in ours.blocks(table) for i, row in zip(each.ids, each.rows, strict=True)}
    found = theirs.rows(table)
    assert found.keys() == wanted.keys()
    assert all(np.array_equal(found[i], wanted[i].float().numpy()) for i in wanted)
