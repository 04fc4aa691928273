"""Small states to damage, and what a load may give: all that was saved, or CorruptCheckpoint that names a file of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import xxhash

from recis_core.backends.errors import CorruptCheckpoint
from recis_core.serialize import latest_state, load_state, save_state

FULL = os.environ.get("RECIS_TEST_FULL") == "1"

STATE: dict[str, Any] = {
    "settings": {"lr": 0.001, "betas": (0.9, 0.999), "name": "wide é \ud800", "limit": float("inf"), 7: None, True: -3},
    "rows": {
        "ids": torch.arange(100) * 2**40,
        "weights": torch.linspace(-1, 1, 100).reshape(20, 5),
        "half": torch.full((3, 1), 0.1, dtype=torch.bfloat16),
        "seen": torch.tensor([True, False, True]),
        "none": torch.zeros(0, 4),
        "one": torch.tensor(1.5, dtype=torch.float64),
    },
    "only words": [[], {}, (), ["a", [2.5, [False]]]],
}


STEP = 9  # of the state that content() is first saved under


def saved(directory: Path, step: int = 7) -> Path:
    return save_state(directory, step, STATE)


def same(a: Any, b: Any) -> bool:
    """Equal with their types, bit by bit, dicts in order."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict):
        return same(list(a), list(b)) and same(list(a.values()), list(b.values()))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def refused_or_whole(path: Path, load: Callable[[Path], Any] = load_state) -> str:
    """ "whole", or what was said in refusing; anything else fails."""
    try:
        state = load(path)
    except CorruptCheckpoint as error:
        said = str(error)
    else:
        said = "whole"
        assert same(state, STATE)
    assert said == "whole" or any(name in said for name in files_of(path)), said
    return said


def refused(path: Path) -> str:
    said = refused_or_whole(path)
    assert said != "whole"
    return said


def files_of(path: Path) -> list[str]:
    """The manifest first."""
    return ["manifest.json", *(f"{part}.safetensors" for part in STATE)]


def forge(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Another manifest, whose hash is right."""
    values = json.loads((path / "manifest.json").read_text())
    del values["xxh3_128"]
    seal(path, json.dumps(change(values) or values).encode())


def seal(path: Path, text: bytes) -> None:
    body = text[:-1]
    (path / "manifest.json").write_bytes(body + b', "xxh3_128": "%s"}\n' % xxhash.xxh3_128_hexdigest(body).encode())


full = pytest.mark.skipif(not FULL, reason="RECIS_TEST_FULL=1")


def content(mark: int) -> dict[str, Any]:
    return {"x": {"mark": mark, "t": torch.full((2000,), mark)}, "y": {"t": torch.full((3,), mark)}}


def mark_of(directory: Path) -> int:
    """Which content the latest state has, all of it."""
    state = load_state(latest_state(directory))
    mark = state["x"]["mark"]
    assert same(state, content(mark))
    return mark


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))
