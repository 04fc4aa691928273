"""The list of files in a state's directory; it ends with the hash of all bytes before.

{"format": 2, "placement": 1, "step": 100,
 "parts": {name: {"tree": …, "bytes": of its file, "xxh3_128": of its file}},
 "xxh3_128": of all bytes of this file before this key}
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from recis_core.backends import placement
from recis_core.backends.errors import CorruptCheckpoint
from recis_core.serialize.part_file import Declared, file_name, opened
from recis_core.serialize.tree import declared_tensors

FORMAT = 2  # 1 had no hash of the manifest
VERSIONS = FORMAT, placement.VERSION
MANIFEST = "manifest.json"
LIMIT = 1 << 26  # bytes of a manifest, which holds all but tensors
HASH = re.compile(r"[0-9a-f]{32}")
LATEST = 10**15  # highest step: its name has 21 characters at most

Written = dict[str, dict[str, Any]]  # part: tree, bytes and hash, as JSON values


@dataclass(frozen=True)
class Part:
    """tree: from split_tensors. tensors: declared in the tree. bytes, xxh3_128: of the part's file."""

    tree: Any
    tensors: Mapping[str, Declared]
    bytes: int
    xxh3_128: str


@dataclass(frozen=True)
class Manifest:
    step: int
    parts: Mapping[str, Part]


def encode_manifest(step: int, written: Written) -> bytes:
    """Raises ValueError if all but tensors takes more than LIMIT bytes."""
    head = {"format": FORMAT, "placement": placement.VERSION, "step": step, "parts": written}
    body = json.dumps(head, allow_nan=False)[:-1].encode()
    data = body + _tail(body)
    if len(data) > LIMIT:
        raise ValueError(
            f"the state holds {len(data)} bytes beside its tensors; at most {LIMIT} can be saved. "
            "Put long lists of numbers into tensors."
        )
    return data


def _tail(body: bytes) -> bytes:
    return b', "xxh3_128": "%s"}\n' % xxhash.xxh3_128_hexdigest(body).encode()


def read_manifest(directory: Path) -> Manifest:
    """Read a manifest; checks every byte.

    Raises:
      CorruptCheckpoint: the manifest is missing, damaged, or of another version.
    """
    path = directory / MANIFEST
    with opened(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > LIMIT:
            raise CorruptCheckpoint(f"{path} cannot be read: it has {size} bytes; at most {LIMIT} are read.")
        data = file.read(LIMIT)
    body = data[: len(data) - len(_tail(b""))]
    if not body or data[len(body) :] != _tail(body):
        raise CorruptCheckpoint(f"{path} cannot be read: {_fault(data)}")
    try:
        return _manifest(_parsed(body + b"}"))
    except (ValueError, RecursionError) as error:
        raise CorruptCheckpoint(f"{path} cannot be read: {error}") from error


def _fault(data: bytes) -> str:
    """The fault of a manifest with a wrong hash; names its version if that can be read and is another."""
    try:
        values = json.loads(data)
        found = values["format"], values["placement"]
    except (ValueError, RecursionError, TypeError, KeyError):
        found = VERSIONS
    if found == VERSIONS:
        return "it is damaged, for it does not end with the hash of what stands before."
    return (
        f"it has (format, placement) versions {str(found)[:40]}, or is damaged; this recis-core reads {VERSIONS}. "
        "A state of another version goes on with the recis-core that saved it."
    )


def _parsed(text: bytes) -> Any:
    return json.loads(text.decode(), object_pairs_hook=_unique, parse_float=_finite, parse_constant=_finite)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError(f"it has a key twice among {str([k for k, _ in pairs])[:80]}.")
    return made


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"it holds the number {text[:20]}.")
    return number


def _manifest(values: Any) -> Manifest:
    _require_keys(values, {"format", "placement", "step", "parts"}, "it")
    if (found := (values["format"], values["placement"])) != VERSIONS:
        raise ValueError(f"it has (format, placement) versions {found}; this recis-core reads {VERSIONS}.")
    if not isinstance(values["parts"], dict):
        raise ValueError("its parts are no object.")
    return Manifest(checked_step(values["step"]), {name: _part(name, part) for name, part in values["parts"].items()})


def _part(name: str, values: Any) -> Part:
    file_name(name)
    where = f"part {name!r}"
    _require_keys(values, {"tree", "bytes", "xxh3_128"}, where)
    size, digest = values["bytes"], values["xxh3_128"]
    if type(size) is not int or size < 0 or not isinstance(digest, str) or not HASH.fullmatch(digest):
        raise ValueError(f"{where} has no size and hash of its file.")
    try:
        return Part(values["tree"], declared_tensors(values["tree"]), size, digest)
    except ValueError as error:
        raise ValueError(f"{where} is damaged: {error}") from error


def _require_keys(values: Any, keys: set[str], what: str) -> None:
    if not isinstance(values, dict) or set(values) != keys:
        found = sorted(values) if isinstance(values, dict) else type(values).__name__
        raise ValueError(f"{what} wants the keys {sorted(keys)}; got {str(found)[:200]}.")


def checked_step(step: Any) -> int:
    """Raises ValueError unless step is an int from 0 to LATEST."""
    if type(step) is not int or not 0 <= step <= LATEST:
        raise ValueError(f"a state's step is an int from 0 to {LATEST}; got {str(step)[:80]!r}.")
    return step
