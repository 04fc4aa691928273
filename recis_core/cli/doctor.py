"""recis doctor: what is installed, which devices there are, which backends run and which one `auto` picks."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from typing import Any

from pydantic.dataclasses import dataclass
from rich.console import Console
from rich.table import Table

from recis_core.cli.read_flags import read_flags

PACKAGES = ("recis-core", "torch", "jax", "jaxlib", "numba", "numpy", "torch2jax", "pyarrow", "msgpack")


@dataclass(frozen=True)
class DoctorConfig:
    """Versions, devices, and which backends run here."""

    json: bool = False
    """One JSON object instead of tables."""


def run(argv: list[str]) -> int:
    config = read_flags(DoctorConfig, argv, "recis doctor")
    report = examine()
    if config.json:
        print(json.dumps(report))
    else:
        show(report)
    return 0


def examine() -> dict[str, Any]:
    """All facts, as JSON values."""
    from recis_core.backends import selection

    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "devices": {"torch": _torch_devices(), "jax": selection.jax_devices()},
        "backends": selection.describe(),
        "RECIS_BACKEND": os.environ.get("RECIS_BACKEND", "auto"),
        "auto": selection.automatic(),
    }


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _torch_devices() -> list[str]:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return ["cpu", *(f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(count))]


def show(report: dict[str, Any]) -> None:
    console = Console()
    versions = Table("package", "version", title=f"Python {report['python']}")
    for name, version in report["packages"].items():
        versions.add_row(name, version)
    console.print(versions)
    for library, devices in report["devices"].items():
        console.print(f"{library} devices: {', '.join(devices) or 'none'}", highlight=False)
    backends = Table("backend", "state", title=f"RECIS_BACKEND={report['RECIS_BACKEND']}; auto picks {report['auto']}")
    for name, state in report["backends"].items():
        backends.add_row(name, state)
    console.print(backends)
