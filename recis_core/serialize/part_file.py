"""One part's tensors in a file that safetensors can read; one pass writes or reads the file and hashes it.

    u64 length of the header | header, JSON: {name: dtype, shape, where} | the tensors' bytes, widest elements first

The header follows from the tensors' names, dtypes and shapes, which the manifest holds too. So the reader knows every
byte of the header beforehand and parses none; it allocates memory only after the file's size was checked.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
import xxhash
from torch import Tensor

from recis_core.backends.errors import CorruptCheckpoint, NotAFile
from recis_core.backends.memory import HUGE, zeroed
from recis_core.durable import open_regular
from recis_core.serialize.store_path import Place, StorePath
from recis_core.serialize.write_back import start_write_back

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
BLOCK = 1 << 23  # bytes hashed and written at a time, while they are in the processor's cache
SUFFIX = ".safetensors"

Declared = tuple[str, tuple[int, ...]]  # a tensor's dtype, by name, and shape
Memory = Callable[[int], np.ndarray]


def file_name(part: str) -> str:
    """The file of a part. Raises ValueError unless the part's name can be a file's on any system."""
    safe = part.isprintable() and not set(part) & set("/\\:") and not part.startswith(".") and part == part.strip()
    if not safe or not 0 < len(part.encode()) <= 200:
        raise ValueError(
            f"a part's name is a file's: 1 to 200 bytes, no separator, control character or leading dot; got {part[:300]!r}."
        )
    return part + SUFFIX


def declared(tensor: Tensor) -> Declared:
    return NAMES[tensor.dtype], tuple(tensor.shape)


def size_of(kind: str, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * DTYPES[kind].itemsize


@dataclass(frozen=True)
class FileHashes:
    """bytes: of a file. xxh3_128: of all of them. sections: {tensor: xxh3_64 of its bytes}, which say where damage is."""

    bytes: int
    xxh3_128: str
    sections: Mapping[str, str] = field(default_factory=dict)


def write_part(path: Place, tensors: Mapping[str, Tensor], given_up: Callable[[], bool] = lambda: False) -> FileHashes:
    """Write a new file, and sync. Once it is given up, it ends at the next block: raises InterruptedError."""
    names = {name: declared(tensor) for name, tensor in tensors.items()}
    digest, sections = xxhash.xxh3_128(), {}
    with created(path) as file:
        _write(file, memoryview(_header(names)), digest)
        for name in _in_file(names):
            section = xxhash.xxh3_64()
            # One tensor at a time in host memory.
            data = _memory(tensors[name].detach().cpu().resolve_conj().resolve_neg().contiguous())
            _write(file, data, digest, section, early=isinstance(path, Path), given_up=given_up)
            sections[name] = section.hexdigest()
        return FileHashes(file.tell(), digest.hexdigest(), sections)


def read_part(
    path: Place, names: Mapping[str, Declared], wanted: FileHashes, memory: Memory | None = None
) -> dict[str, Tensor]:
    """The tensors of these names, dtypes and shapes. memory: for large ones, at least as many bytes as it is asked for.

    Raises:
      CorruptCheckpoint: the file is missing, no regular file, or has another size or hash; names the damaged section.
    """
    header, digest, size = _header(names), xxhash.xxh3_128(), wanted.bytes
    if size != len(header) + sum(size_of(*each) for each in names.values()):
        raise CorruptCheckpoint(f"{path} cannot hold what its manifest lists in {size} bytes.")
    with opened(path) as file:
        if (found := bytes_of(file)) != size:
            cut = f" It ends in {_section_at(names, found)}." if found < size else ""
            raise CorruptCheckpoint(f"{path} has {found} bytes; its manifest says {size}.{cut}")
        stored = file.read(len(header))
        digest.update(stored)
        tensors = {name: _read(file, digest, *names[name], memory or new_memory) for name in _in_file(names)}
        if digest.hexdigest() != wanted.xxh3_128:
            where = _damaged(stored != header, tensors, wanted.sections)
            raise CorruptCheckpoint(
                f"{path} has hash {digest.hexdigest()}; its manifest says {wanted.xxh3_128}.{where}"
            )
        if stored != header:
            raise CorruptCheckpoint(f"{path} names other tensors than its manifest.")
    return tensors


@contextmanager
def created(path: Place) -> Iterator[BinaryIO]:
    """A new file to write; when the block ends, its bytes are durable. Raises OSError."""
    if isinstance(path, StorePath):
        with path.created() as file:
            yield file
        return
    with open(open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def bytes_of(file: BinaryIO) -> int:
    """The size of an open file, which is then at its start."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size


@contextmanager
def opened(path: Place) -> Iterator[BinaryIO]:
    """Open a state's file to read.

    Raises:
      CorruptCheckpoint: the file is missing, a link, no regular file, or unreadable.
    """
    try:
        with path.opened() if isinstance(path, StorePath) else open(open_regular(path, os.O_RDONLY), "rb") as file:
            yield file
    except FileNotFoundError as error:
        raise CorruptCheckpoint(f"{path.parent} lacks {path.name}, which a whole state has.") from error
    except NotAFile as error:
        raise CorruptCheckpoint(str(error)) from error
    except OSError as error:
        raise CorruptCheckpoint(f"{path} cannot be read: {error.strerror or error}.") from error


def _header(names: Mapping[str, Declared]) -> bytes:
    places: dict[str, Any] = {}
    end = 0
    for name in _in_file(names):
        kind, shape = names[name]
        begin, end = end, end + size_of(kind, shape)
        places[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(places, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _section_at(names: Mapping[str, Declared], place: int) -> str:
    """Which section a byte of the file belongs to."""
    at = len(_header(names))
    if place < at:
        return "its header"
    for name in _in_file(names):
        at += size_of(*names[name])
        if place < at:
            return f"section {name!r}"
    return "no section"


def _damaged(header: bool, tensors: Mapping[str, Tensor], sections: Mapping[str, str]) -> str:
    if header:
        return " Its header is damaged."
    wrong = [n for n in tensors if n in sections and xxhash.xxh3_64_hexdigest(_memory(tensors[n])) != sections[n]]
    return f" Section {', '.join(map(repr, wrong[:5]))} is damaged." if wrong else ""


def _in_file(names: Mapping[str, Declared]) -> list[str]:
    """Names in file order, widest elements first: each tensor is aligned to its elements."""
    return sorted(names, key=lambda name: -DTYPES[names[name][0]].itemsize)


def _memory(tensor: Tensor) -> memoryview:
    # A contiguous tensor of one element may have any stride; view wants 1.
    return memoryview(tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8).numpy())


def _write(
    file: BinaryIO, data: memoryview, *digests: Any, early: bool = False, given_up: Callable[[], bool] = lambda: False
) -> None:
    for begin in range(0, len(data), BLOCK):
        if given_up():
            raise InterruptedError("the save was given up")
        block = data[begin : begin + BLOCK]
        for digest in digests:
            digest.update(block)
        file.write(block)
        if early and len(block) == BLOCK:
            start_write_back(file)


def new_memory(size: int) -> np.ndarray:
    """Bytes on huge pages, for ordinary ones take as long to come as the bytes to be read."""
    return zeroed((size,), np.dtype(np.uint8))


def _room_for(dtype: torch.dtype, shape: tuple[int, ...], memory: Memory) -> Tensor:
    size = math.prod(shape) * dtype.itemsize
    if size < HUGE:
        return torch.empty(shape, dtype=dtype)
    return torch.from_numpy(memory(size)[:size]).view(dtype).view(shape)


def _read(file: BinaryIO, digest: Any, kind: str, shape: tuple[int, ...], memory: Memory) -> Tensor:
    tensor = _room_for(DTYPES[kind], shape, memory)
    data = _memory(tensor)
    for begin in range(0, len(data), BLOCK):
        block = data[begin : begin + BLOCK]
        if (got := file.readinto(block)) != len(block):  # type: ignore[attr-defined]
            raise OSError(f"it ended {len(block) - got} bytes early")
        digest.update(block)
    return tensor
