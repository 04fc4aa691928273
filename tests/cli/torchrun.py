"""`torchrun … -m recis_core.cli train …` as a user types it, and what the saved states of its runs hold."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recis_core.serialize import TableBlock, open_checkpoint

ROOT = Path(__file__).parents[2]
LIMIT = 400  # seconds a run may take
ENV = {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "RECIS_EXCHANGE_TIMEOUT": "300", "RECIS_BACKEND": "numba"}


def torchrun(
    world: int, *argv: str, module: str = "recis_core.cli", restarts: int = 0, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    head = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(world)]
    head += ["--master-addr", "127.0.0.1", "--master-port", port, "--max-restarts", str(restarts), "-m", module]
    done = os.environ | ENV | (env or {})
    return subprocess.run([*head, *argv], cwd=ROOT, env=done, capture_output=True, text=True, timeout=LIMIT)


def last_line(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The final JSON object of a run that went well."""
    assert done.returncode == 0, done.stderr[-5000:]
    finals = [line for line in done.stdout.splitlines() if line.startswith('{"final"')]
    assert len(finals) == 1, f"{len(finals)} ranks reported"
    return json.loads(finals[0])


Rows = dict[str, dict[int, np.ndarray]]


def saved_rows(directory: Path) -> Rows:
    """{table: {id: row and slots}} of the latest state in a directory, of any number of ranks."""
    checkpoint = open_checkpoint(directory)
    return {name: _rows_of(checkpoint.blocks(name)) for name in checkpoint.tables}


def _rows_of(blocks: Iterable[TableBlock]) -> dict[int, np.ndarray]:
    found: dict[int, np.ndarray] = {}
    for block in blocks:
        rows = torch.cat([block.rows, *(block.slots[name] for name in sorted(block.slots))], 1).numpy()
        assert not found.keys() & set(block.ids.tolist()), "an id comes twice"
        found |= zip(block.ids.tolist(), rows, strict=True)
    return found


def sha256_of(tables: Rows, widths: dict[str, list[int]]) -> str:
    """What tables_sha256 promises, of rows apart: names, then ids ascending, then each column block in that order."""
    digest = hashlib.sha256()
    for name in sorted(tables):
        ids = sorted(tables[name])
        digest.update(name.encode() + np.array(ids, "<i8").tobytes())
        rows = np.stack([tables[name][i] for i in ids])
        for block in np.split(rows, np.cumsum(widths[name])[:-1], axis=1):
            digest.update(np.ascontiguousarray(block, "<f4").tobytes())
    return digest.hexdigest()
