"""python -m bench jax: two rows a vocabulary; nothing is timed that is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from recis_core.bench import jax_step


@pytest.mark.full
def test_rows(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    small = ["--vocabularies", "300", "--n", "64", "--bags", "16", "--dim", "4", "--repeats", "1", "--batches", "1"]
    assert jax_step.run([*small, "--out", str(out)]) == 0
    ours, flax = (json.loads(line) for line in out.read_text().splitlines())
    assert (ours["name"], flax["name"]) == ("recis_core.jax", "flax nn.Embed, optax.adam")
    assert ours["step_ms"] * ours["ratio"] == pytest.approx(flax["step_ms"])
    assert flax["ratio"] == 1


def test_rows_that_differ_are_seen() -> None:
    with pytest.raises(RuntimeError, match=r"differ by 0.1: nothing was timed"):
        jax_step.check(np.ones((2, 2)), np.full((2, 2), 1.1))
