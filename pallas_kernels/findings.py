"""Results of autotune.py, by device: a JSON file that tuning.py reads before its heuristics.

    {"device": "NVIDIA H200", "jax": "0.11.2", "findings": {"pool": {"64": {"bags": 8, "unroll": 4, "num_warps": 4}}}}

Lies in RECIS_TUNING, a folder, else in ~/.cache/recis_core/tuning. Without a file for the device there are only heuristics.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import jax

Config = TypeVar("Config")
Findings = dict[str, dict[str, dict[str, int]]]


def tuned(name: str, key: int, heuristic: Config) -> Config:
    """The tuned config of `name` at this key (a dim, or ways), else the heuristic one.

    Raises:
      ValueError: the file's entry is no such config.
    """
    device = device_kind()
    entry = None if device is None else read(findings_file(device)).get(name, {}).get(str(key))
    if entry is None:
        return heuristic
    try:
        return type(heuristic)(**entry)
    except (TypeError, ValueError) as error:
        wanted = ", ".join(asdict(heuristic))  # type: ignore[call-overload]
        raise ValueError(
            f"{findings_file(device or '')} must give {name} at {key} the numbers {wanted}; got {entry}: {error} "
            "Delete it, or tune again."
        ) from error


def device_kind() -> str | None:
    """The GPU's name; None on other machines, where there is nothing to tune."""
    return jax.devices()[0].device_kind if jax.default_backend() == "gpu" else None


def findings_file(device: str) -> Path:
    folder = os.environ.get("RECIS_TUNING") or Path.home() / ".cache" / "recis_core" / "tuning"
    return Path(folder) / (device.replace(" ", "-").lower() + ".json")


@cache
def read(path: Path) -> Findings:
    """Empty where there is no file. Read once: kernels ask at each trace."""
    if not path.exists():
        return {}
    found: Findings = json.loads(path.read_text())["findings"]
    return found


def write(path: Path, device: str, findings: Findings) -> None:
    """Add findings to the file's."""
    known: dict[str, Any] = {name: dict(by_key) for name, by_key in read(path).items()}
    for name, by_key in findings.items():
        known[name] = {**known.get(name, {}), **by_key}
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"device": device, "jax": jax.__version__, "findings": known}
    path.write_text(json.dumps(content, indent=2) + "\n")
    read.cache_clear()
