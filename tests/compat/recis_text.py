"""What changes in a program of RecIS before it runs here: its import root, and devices that this machine does not have."""

from __future__ import annotations

import re

HOME = "recis_core.compat.recis"
CHANGES = (
    (re.compile(r"^(\s*)from recis(?=[.\s])", re.M), rf"\1from {HOME}"),
    (re.compile(r"^(\s*)import recis$", re.M), rf"\1import {HOME} as recis"),
    (re.compile(r"^(\s*)import recis\.", re.M), rf"\1import {HOME}."),
    (re.compile(r"^(\s*)torch\.cuda\.(?:synchronize|set_device)\(.*\)$", re.M), r"\1pass"),
    (re.compile(r"\.cuda\(\)"), ".cpu()"),
    (re.compile(r"""(["'])cuda(?::\d+)?\1"""), r"\1cpu\1"),
)


def changed(text: str) -> str:
    """The program's text for this machine."""
    for pattern, new in CHANGES:
        text = pattern.sub(new, text)
    return text
