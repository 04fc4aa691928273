"""Files of clicks as pandas writes them, and runs trained on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recis_core.cli import main

TRAIN = ["--batch-size", "200", "--dim", "4", "--lr", "0.02", "--backend", "numba", "--epochs", "2"]


def clicks(rows: int, seed: int = 0, unknown: int = 0) -> pd.DataFrame:
    """click, user (ints), city (text), tags (lists with nulls), x (floats with nulls). unknown: added to all users."""
    rng = np.random.default_rng(seed)
    user = rng.integers(0, 60, rows)
    return pd.DataFrame(
        {
            "click": (rng.random(rows) < (user % 7 + 1) / 8).astype(int),
            "user": user + unknown,
            "city": rng.choice(["Rome", "Oslo", "Lima", None], rows),
            "tags": [list(rng.integers(0, 9, count)) if count else None for count in rng.integers(0, 4, rows)],
            "x": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(size=rows)),
        }
    )


def write(folder: Path, name: str, frame: pd.DataFrame, **how: Any) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path, index=False, **how)
    return str(path)


def run(capsys: Any, *argv: str) -> tuple[int, str, str]:
    status = main(list(argv))
    said = capsys.readouterr()
    return status, said.out, said.err


def last(capsys: Any, *argv: str) -> dict[str, Any]:
    """The last JSON line of what goes well."""
    status, out, err = run(capsys, *argv, "--json")
    assert status == 0, err
    return json.loads(out.splitlines()[-1])


def refused(capsys: Any, *argv: str) -> str:
    """The one line of what is refused."""
    status, out, err = run(capsys, *argv)
    assert (status, out) == (1, "")
    assert len(err.splitlines()) == 1, err
    return err
