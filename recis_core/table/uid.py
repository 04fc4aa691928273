"""A table's uid: 32 bits of its name, used in keys, hashes and initial values."""

from __future__ import annotations

import xxhash


def uid(name: str) -> int:
    """uint32 of a table name, the same in every process and on every rank."""
    return xxhash.xxh3_64_intdigest(name.encode()) & 0xFFFFFFFF


def distinct_uids(names: list[str]) -> tuple[int, ...]:
    """uids of the names of one model.

    Raises:
      ValueError: two names have the same uid (one chance in 4 billion a pair).
    """
    seen: dict[int, str] = {}
    for name in names:
        other = seen.setdefault(uid(name), name)
        if other != name:
            raise ValueError(f"tables {other!r} and {name!r} have the same 32-bit uid; rename one of them.")
    return tuple(uid(name) for name in names)
