"""Rows of the tables in docs/pytorch-verbs.md."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs" / "pytorch-verbs.md"


def decided(title: str) -> dict[str, str]:
    """{member: "works" or "raises"} under a heading."""
    section = DOCS.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    return {name: row[2].strip() for row in rows for name in re.findall(r"`([^`]+)`", row[1])}


def members_of(kind: type) -> set[str]:
    """What torch gives a class beyond what every Python object has."""
    own = set(dir(kind)) - set(dir(type("Plain", (), {}))) - {"__annotations__"}
    own = {name for name in own if not name.startswith("___")}  # what torch.compile leaves on the class
    return {name for name in own if not _of_transformers(getattr(kind, name, None))}


def _of_transformers(member: object) -> bool:
    """Making a model of theirs puts smart_apply on nn.Module."""
    return (getattr(member, "__module__", None) or "").startswith("transformers.")
