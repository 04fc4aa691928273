"""Sizes, counts and times as people read them."""

from __future__ import annotations


def in_bytes(value: float) -> str:
    """12.3 GB: powers of 1000, three digits."""
    return f"{_scaled(value, ('', 'k', 'M', 'G', 'T', 'P'), ' ')}B"


def in_counts(value: float) -> str:
    """32.4k, 26.1B."""
    return _scaled(value, ("", "k", "M", "B", "T", "P"), "")


def in_seconds(value: float) -> str:
    """1.25 ms."""
    return f"{_scaled(value * 1e6, ('µ', 'm', ''), ' ')}s"


def _scaled(value: float, prefixes: tuple[str, ...], gap: str) -> str:
    for prefix in prefixes:
        if abs(value) < 999.5 or prefix == prefixes[-1]:
            break
        value /= 1000
    shown = f"{value:.3g}" if value and abs(value) < 999.5 else f"{value:.0f}"
    return f"{shown}{gap}{prefix}"
