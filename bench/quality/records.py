"""Records of trainings: JSON Lines, one a model and seed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recis_core.bench.provenance import provenance
from recis_core.bench.quality.case import Case

FILE = Path(__file__).resolve().parents[1] / "results" / "cpu-models.jsonl"
Record = dict[str, Any]


def record(case: Case, seed: int) -> Record:
    """Train the model, and its peer, from one seed."""
    facts = provenance(seed)
    ours = case.train(seed)
    theirs = case.peer(seed) if case.peer else None
    return {
        "bench": "models", "model": case.name, "data": case.data,
        "figures": dict(ours.figures), "best": dict(ours.best), "seconds": round(ours.seconds, 2),
        "peer": case.peer_name, "peer_figures": dict(theirs.figures) if theirs else {},
        "peer_seconds": round(theirs.seconds, 2) if theirs else None,
        "below_best": dict(case.below_best), "below_peer": dict(case.below_peer), **facts,
    }  # fmt: skip


def read(file: Path = FILE) -> list[Record]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def keep(new: Sequence[Record], file: Path = FILE) -> None:
    """Write the records in the order of models' names and seeds; a model's new ones replace all its former ones."""
    models = {each["model"] for each in new}
    all_of_them = [each for each in read(file) if each["model"] not in models] + list(new)
    file.parent.mkdir(parents=True, exist_ok=True)
    ordered = sorted(all_of_them, key=lambda each: (each["model"], each["seed"]))
    file.write_text("".join(json.dumps(each) + "\n" for each in ordered))
