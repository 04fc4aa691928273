"""The list of files in a state's directory; it ends with the hash of all bytes before. docs/checkpoint-format.md.

{"format": 3, "placement": 1, "step": 100,
 "kind": "full" or "delta", "base": null or {"step": 90, "xxh3_128": of the base's manifest},
 "folder": "" or the folder of the parts' files, "environment": {…}, "tables": {name: …},
 "parts": {name: {"tree": …, "bytes": of its file, "xxh3_128": of its file, "sections": {tensor: xxh3_64}}},
 "xxh3_128": of all bytes of this file before this key}
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import xxhash

from recis_core.backends import placement
from recis_core.backends.errors import CorruptCheckpoint
from recis_core.serialize.part_file import Declared, FileHashes, bytes_of, file_name, opened
from recis_core.serialize.store_path import Place
from recis_core.serialize.table_entry import TableEntry, read_entry
from recis_core.serialize.tree import declared_tensors

FORMAT = 3  # 1 had no hash of the manifest; 2 had neither tables nor a base
OLDER = 2  # is read, too
VERSIONS = FORMAT, placement.VERSION
READABLE = VERSIONS, (OLDER, placement.VERSION)
MANIFEST = "manifest.json"
LIMIT = 1 << 26  # bytes of a manifest, which holds all but tensors
HASH = re.compile(r"[0-9a-f]{32}")
FOLDER = re.compile(r"|[0-9a-f]{16}")
HEAD = {"kind", "base", "folder", "environment", "tables"}  # keys of format 3 beside those of 2
LATEST = 10**15  # highest step: its name has 21 characters at most

Written = dict[str, dict[str, Any]]  # part: tree, bytes and hash, as JSON values


@dataclass(frozen=True)
class Part:
    """tree: from split_tensors. tensors: declared in the tree. hashes: of the part's file."""

    tree: Any
    tensors: Mapping[str, Declared]
    hashes: FileHashes


@dataclass(frozen=True)
class Base:
    """The checkpoint that a delta follows: its step, and the hash that its manifest ends with."""

    step: int
    xxh3_128: str


@dataclass(frozen=True)
class Head:
    """What a manifest says beside step and parts.

    base: None of a full checkpoint. folder: where the parts' files are, below the manifest; "" beside it.
    tables: {name: how its rows lie in parts}, table_entry.py. environment: JSON values.
    """

    base: Base | None = None
    folder: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, TableEntry] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return "full" if self.base is None else "delta"


@dataclass(frozen=True)
class Manifest:
    """xxh3_128: the hash that the file ends with."""

    step: int
    parts: Mapping[str, Part]
    head: Head = Head()
    xxh3_128: str = ""


def encode_manifest(step: int, written: Written, head: Head | None = None) -> bytes:
    """Raises ValueError if all but tensors takes more than LIMIT bytes."""
    head = head or Head()
    values = {
        "format": FORMAT, "placement": placement.VERSION, "step": step, "kind": head.kind,
        "base": None if head.base is None else asdict(head.base), "folder": head.folder,
        "environment": dict(head.environment), "tables": {name: asdict(entry) for name, entry in head.tables.items()},
        "parts": written,
    }  # fmt: skip
    body = json.dumps(values, allow_nan=False)[:-1].encode()
    data = body + _tail(body)
    if len(data) > LIMIT:
        raise ValueError(
            f"the state holds {len(data)} bytes beside its tensors; at most {LIMIT} can be saved. "
            "Put long lists of numbers into tensors."
        )
    return data


def _tail(body: bytes) -> bytes:
    return b', "xxh3_128": "%s"}\n' % xxhash.xxh3_128_hexdigest(body).encode()


def hash_of(data: bytes) -> str:
    """The hash that a manifest's bytes end with."""
    return data[-len(b'"}\n') - 32 :][:32].decode()


def read_manifest(directory: Place) -> Manifest:
    """Read a manifest; checks every byte.

    Raises:
      CorruptCheckpoint: the manifest is missing, damaged, or of another version.
    """
    path = directory / MANIFEST
    with opened(path) as file:
        if (size := bytes_of(file)) > LIMIT:
            raise CorruptCheckpoint(f"{path} cannot be read: it has {size} bytes; at most {LIMIT} are read.")
        data = file.read(LIMIT)
    body = data[: len(data) - len(_tail(b""))]
    if not body or data[len(body) :] != _tail(body):
        raise CorruptCheckpoint(f"{path} cannot be read: {_fault(data)}")
    try:
        return _manifest(_parsed(body + b"}"), xxhash.xxh3_128_hexdigest(body))
    except (ValueError, RecursionError) as error:
        raise CorruptCheckpoint(f"{path} cannot be read: {error}") from error


def _fault(data: bytes) -> str:
    """The fault of a manifest with a wrong hash; names its version if that can be read and is another."""
    try:
        values = json.loads(data)
        found = values["format"], values["placement"]
    except (ValueError, RecursionError, TypeError, KeyError):
        found = VERSIONS
    if found in READABLE:
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


def _manifest(values: Any, digest: str) -> Manifest:
    older = isinstance(values, dict) and values.get("format") == OLDER
    _require_keys(values, {"format", "placement", "step", "parts"} | (set() if older else HEAD), "it")
    if (found := (values["format"], values["placement"])) not in READABLE:
        raise ValueError(f"it has (format, placement) versions {found}; this recis-core reads {VERSIONS}.")
    if not isinstance(values["parts"], dict):
        raise ValueError("its parts are no object.")
    step = checked_step(values["step"])
    parts = {name: _part(name, part, older) for name, part in values["parts"].items()}
    return Manifest(step, parts, Head() if older else _head(values, parts), digest)


def _head(values: Mapping[str, Any], parts: Mapping[str, Part]) -> Head:
    tables, base, folder = values["tables"], values["base"], values["folder"]
    if not isinstance(values["environment"], dict) or not isinstance(tables, dict):
        raise ValueError("its environment and its tables are objects.")
    if not isinstance(folder, str) or not FOLDER.fullmatch(folder):
        raise ValueError(f"its folder is no name that this library gives; got {str(folder)[:80]!r}.")
    head = Head(_base(base), folder, values["environment"], {n: read_entry(n, e, parts) for n, e in tables.items()})
    if values["kind"] != head.kind:
        raise ValueError(f"it is {str(values['kind'])[:20]!r}, but its base says {head.kind!r}.")
    return head


def _base(values: Any) -> Base | None:
    if values is None:
        return None
    _require_keys(values, {"step", "xxh3_128"}, "its base")
    if not isinstance(values["xxh3_128"], str) or not HASH.fullmatch(values["xxh3_128"]):
        raise ValueError("its base has no hash.")
    return Base(checked_step(values["step"]), values["xxh3_128"])


def _part(name: str, values: Any, older: bool) -> Part:
    file_name(name)
    where = f"part {name!r}"
    _require_keys(values, {"tree", "bytes", "xxh3_128"} | (set() if older else {"sections"}), where)
    size, digest, sections = values["bytes"], values["xxh3_128"], values.get("sections", {})
    if type(size) is not int or size < 0 or not isinstance(digest, str) or not HASH.fullmatch(digest):
        raise ValueError(f"{where} has no size and hash of its file.")
    try:
        tensors = declared_tensors(values["tree"])
    except ValueError as error:
        raise ValueError(f"{where} is damaged: {error}") from error
    if not older and (not isinstance(sections, dict) or set(sections) != set(tensors)):
        raise ValueError(f"{where} has no hash for each of its tensors.")
    return Part(values["tree"], tensors, FileHashes(size, digest, sections))


def _require_keys(values: Any, keys: set[str], what: str) -> None:
    if not isinstance(values, dict) or set(values) != keys:
        found = sorted(values) if isinstance(values, dict) else type(values).__name__
        raise ValueError(f"{what} wants the keys {sorted(keys)}; got {str(found)[:200]}.")


def checked_step(step: Any) -> int:
    """Raises ValueError unless step is an int from 0 to LATEST."""
    if type(step) is not int or not 0 <= step <= LATEST:
        raise ValueError(f"a state's step is an int from 0 to {LATEST}; got {str(step)[:80]!r}.")
    return step
