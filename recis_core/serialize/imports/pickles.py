"""Files of torch.save, which are pickles: tensors and plain values are read from them, code never runs."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from recis_core.backends.errors import CorruptCheckpoint

BROKEN = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile)


def read_plain(path: Path) -> Any:
    """What torch.save wrote, on the CPU; files of the zip format are mapped, so that tensors are read when they are used.

    Raises:
      CorruptCheckpoint: the file is damaged, or needs classes to be read.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise CorruptCheckpoint(
            f"{path} cannot be read as tensors and plain values: {_first_line(error)}. Reading other objects could run code. "
            "Where the classes are at hand and the file is trusted, write a state_dict of plain tensors anew: "
            "torch.save({name: tensor.detach().cpu() for …}, path)."
        ) from error
    except BROKEN as error:
        raise CorruptCheckpoint(
            f"{path} cannot be read as a file of torch.save: {_first_line(error)}. Is it whole?"
        ) from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if "Unsupported" in line or "WeightsUnpickler" in line]
    return (told or lines or [type(error).__name__])[0][:300].rstrip(".")
