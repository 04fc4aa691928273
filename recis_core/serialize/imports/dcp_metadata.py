"""The .metadata of torch.distributed.checkpoint, which is a pickle: read with the classes of such metadata, and no others."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

from recis_core.backends.errors import CorruptCheckpoint
from recis_core.serialize.part_file import opened

METADATA = ".metadata"
CLASSES = {
    "torch": {"Size", "device"},
    "torch.serialization": {"_get_layout"},
    "torch.distributed.checkpoint.metadata": {
        "BytesStorageMetadata", "ChunkStorageMetadata", "Metadata", "MetadataIndex", "StorageMeta", "TensorProperties",
        "TensorStorageMetadata", "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo", "_StoragePrefix"},
    "collections": {"OrderedDict"},
    "pathlib": {"Path", "PosixPath", "PurePosixPath"},
    "pathlib._local": {"PosixPath"},
}  # fmt: skip
DTYPES = {
    "bfloat16", "bool", "complex64", "complex128", "float16", "float32", "float64", "float8_e4m3fn", "float8_e5m2", "int16",
    "int32", "int64", "int8", "uint16", "uint32", "uint64", "uint8",
}  # fmt: skip


def read_metadata(directory: Path) -> Any:
    """The Metadata of a directory that dcp.save wrote.

    Raises:
      FileNotFoundError: there is none. CorruptCheckpoint: it is damaged, names a class of others, or files outside of the
        directory.
    """
    path = directory / METADATA
    if not path.exists():
        raise FileNotFoundError(
            f"{directory} has no {METADATA}, which dcp.save writes last: it holds no whole checkpoint."
        )
    with opened(path) as file:
        data = file.read()
    try:
        metadata = _Unpickler(io.BytesIO(data)).load()
        places = [str(info.relative_path) for info in metadata.storage_data.values()]
    except (pickle.UnpicklingError, EOFError, AttributeError, TypeError, ValueError, IndexError, KeyError) as error:
        raise CorruptCheckpoint(f"{path} cannot be read: {str(error)[:300] or type(error).__name__}") from error
    outside = [place for place in places if Path(place).name != place or (directory / place).is_symlink()]
    if outside:
        raise CorruptCheckpoint(f"{path} names {outside[0]!r:.100}, which is no file beside it, or a link.")
    return metadata


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name in CLASSES.get(module, ()) or (module == "torch" and name in DTYPES):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is no part of a checkpoint's metadata.")
