"""Trains RecIS's example models through recis_core.compat.recis, each as its own run.sh says, on one process and on two."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from tests.compat.recis_text import changed

SECONDS = 3600
WORLDS = (1, 2)
# The examples divide the machine's cores by 16; a smaller machine would have no thread at all.
CORES = "import multiprocessing\nmultiprocessing.cpu_count = lambda: 16\nimport recis_core.compat.recis\n"


def run_examples(checkout: Path, aside: Path, only: str, root: Path) -> int:
    """Prints a line for each model and world. Returns 1 if one failed, else 0."""
    failed = 0
    for run in sorted((checkout / "examples").glob("*/run.sh")):
        if only not in run.parent.name:
            continue
        folder = aside / run.parent.name
        _copy(run.parent, folder)
        if (wrong := _without_data(folder, root)) is not None:
            print(f"left out     {run.parent.name}: {wrong}", flush=True)
            continue
        for world in WORLDS:
            wrong = _trained(folder, run.read_text(), world, root)
            failed += wrong is not None
            print(
                f"{'failed' if wrong else 'trained':12} {run.parent.name}, {world} processes {wrong or ''}", flush=True
            )
    return int(failed > 0)


def _copy(example: Path, folder: Path) -> None:
    shutil.copytree(example, folder)
    for file in folder.glob("*.py"):
        file.write_text(changed(file.read_text()))
    (folder / "sitecustomize.py").write_text(CORES)


def _without_data(folder: Path, root: Path) -> str | None:
    """Why the example has no files to read; makes those that it has a program for."""
    for program in folder.glob("make_*.py"):
        subprocess.run([sys.executable, program.name], cwd=folder, env=_env(folder, root), check=True, timeout=SECONDS)
    return None if any(folder.glob("*/*.orc")) else "the checkout lacks its data/*.orc"


def _trained(folder: Path, script: str, world: int, root: Path) -> str | None:
    """None, or the end of what it said."""
    shutil.rmtree(folder / "ckpt", ignore_errors=True)
    script = re.sub(r"^WORLD_SIZE=.*", f"WORLD_SIZE={world}", script, flags=re.M)
    script = re.sub(r"^MASTER_PORT=.*", f"MASTER_PORT={_free_port()}", script, flags=re.M)
    script = re.sub(r"^torchrun\b", f"exec {sys.executable} -m torch.distributed.run", script, flags=re.M)
    script = re.sub(r"^export PYTHONPATH=.*", "", script, flags=re.M)
    ran = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=_env(folder, root), capture_output=True, text=True, timeout=SECONDS
    )
    if ran.returncode:
        return f"ended with {ran.returncode}\n{ran.stdout[-1000:]}\n{ran.stderr[-3000:]}"
    saved = sorted((folder / "ckpt").glob("ckpt_*/index"))
    return None if saved else f"saved no checkpoint\n{ran.stdout[-1000:]}"


def _env(folder: Path, root: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(root), str(folder)])}


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
