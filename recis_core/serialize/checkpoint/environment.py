"""What wrote a checkpoint, for people: versions, commit, command, ranks."""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

import recis_core
from recis_core.channel.rank_group import world_size

PACKAGES = ("numpy", "numba", "jax")
COMMAND = 4000  # characters


def environment_here() -> dict[str, Any]:
    """JSON values. Command lines may hold secrets: what looks like one is the caller's to leave out."""
    versions = {"recis_core": recis_core.__version__, "torch": torch.__version__, "python": platform.python_version()}
    return {
        "versions": versions | {name: found for name in PACKAGES if (found := _version(name)) is not None},
        "commit": _commit(),
        "command": " ".join(sys.argv)[:COMMAND],
        "world": world_size(),
        "saved": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def _commit() -> str | None:
    """The commit of the working directory; None outside a repository, or without git."""
    try:
        asked = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return asked.stdout.strip() if asked.returncode == 0 else None
