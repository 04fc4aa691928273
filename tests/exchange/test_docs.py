"""The programs of docs/exchange.md do what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torch.nn.parallel import DistributedDataParallel

from recis_core.nn import filter_out_sparse_param
from tests.exchange.models import Model, assert_same_tables, optimizer_of, rows_of, united
from tests.exchange.ranks import QUIET, run_ranks
from tests.training.on_ranks import sharded, train

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def programs() -> list[str]:
    """The section's Python blocks."""
    section = (ROOT / "docs" / "exchange.md").read_text().split("## Beside DDP and FSDP2")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


def test_torchrun(programs: list[str], tmp_path: Path) -> None:
    """In 25 lines at most, on two ranks."""
    program = programs[0]
    assert len([line for line in program.splitlines() if line]) <= 25
    # gloo's threads may abort a process that leaves in the ordinary way
    (tmp_path / "train.py").write_text(program + '\nprint(f"loss {loss.item():.3f}", flush=True)\nos._exit(0)\n')
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    env = QUIET | {"RECIS_BACKEND": "numba", "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([*run, str(tmp_path / "train.py")], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("loss 0.") == 2


def wrapped(rank: int, world: int, program: str, folder: str) -> dict[str, Any]:
    """Tables hold no parameter; the checkpoint program, run in a new model for what another one has learned."""
    seen: dict[str, Any] = {}
    for name, wrap in (("ddp", DistributedDataParallel), ("fsdp2", sharded)):
        save, load = program.split("\n\nfrom ")
        names: dict[str, Any] = {"path": f"{folder}/{name}"}
        for code in (save, f"from {load}"):
            inner = Model()
            assert not list(inner.engine.parameters())
            names["model"] = model = wrap(inner)
            assert list(filter_out_sparse_param(model)) == ["user", "item", "tags"]
            names["optimizer"] = optimizer = optimizer_of(model)
            if code == save:
                train(model, optimizer, rank, world, 2)
                seen[name] = rows_of(model)
            exec(code, names)
            assert set(optimizer.sparse.state_dict()["t"].values()) == {2}
        seen[f"{name} again"] = rows_of(model)
    return seen


def test_wrappers_leave_tables_alone_and_checkpoints_hold_them(programs: list[str], tmp_path: Path) -> None:
    ranks = run_ranks(2, wrapped, programs[1], str(tmp_path))
    for name in ("ddp", "fsdp2"):
        want = united([rank[name] for rank in ranks])
        assert all(len(rows) > 10 for rows in want.values())
        assert_same_tables(united([rank[f"{name} again"] for rank in ranks]), want, rtol=0)
