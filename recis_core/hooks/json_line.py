"""Values as one line of JSON."""

from __future__ import annotations

import json
import math
from typing import Any


def json_line(value: Any) -> str:
    """With null for nan and infinity, which JSON lacks."""
    return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
