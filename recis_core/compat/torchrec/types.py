"""Kinds of rows, as torchrec.types has them."""

from __future__ import annotations

from enum import Enum, unique
from typing import Any

import torch


@unique
class DataType(Enum):
    """How a table's rows are stored. Tables here store FP32 or BF16."""

    FP32 = "FP32"
    FP16 = "FP16"
    BF16 = "BF16"
    INT64 = "INT64"
    INT32 = "INT32"
    INT8 = "INT8"
    UINT8 = "UINT8"
    INT4 = "INT4"
    INT2 = "INT2"
    NFP8 = "NFP8"

    def __str__(self) -> str:
        return self.value


STORED = {"FP32": torch.float32, "BF16": torch.bfloat16}


def stored_dtype(data_type: Any, table: str) -> torch.dtype:
    """The dtype of a table's rows, by our DataType or TorchRec's.

    Raises:
      ValueError: tables have no such rows.
    """
    if data_type.value not in STORED:
        raise ValueError(
            f"data_type of table {table!r} must be FP32 or BF16; got {data_type}. Train in one of them; serve quantised "
            "rows by recis_core.serving."
        )
    return STORED[data_type.value]
