"""nn.Module's verbs for modules whose weights are tables; docs/pytorch-verbs.md lists them.

Tables are no nn.Parameter, so torch's own verbs would skip them silently. Called on a table, an engine or a
DynamicEmbedding, a verb works, or raises with the way out. Called on a model that holds one, `to` and similar verbs move
dense parameters; tables stay on the device of their option.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import nn

from recis_core.backends.errors import RecisError
from recis_core.process import refuse_to_pickle

if TYPE_CHECKING:
    from recis_core.nn.hash_table import HashTable


class TableModule(nn.Module):
    """Base of HashTable, EmbeddingEngine and DynamicEmbedding."""

    def _tables_inside(self) -> list[HashTable]:
        from recis_core.nn.hash_table import HashTable  # a subclass of TableModule

        return [module for module in self.modules() if isinstance(module, HashTable)]

    def to(self, *args: Any, **kwargs: Any) -> Any:
        device, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
        self._stay(device, dtype)
        return super().to(*args, **kwargs)

    def type(self, dst_type: Any) -> Any:
        dtype = dst_type if isinstance(dst_type, torch.dtype) else torch.empty(0, device="cpu").type(dst_type).dtype
        self._stay(None, dtype)
        return super().type(dst_type)

    def half(self) -> Any:
        self._stay(None, torch.float16)
        return super().half()

    def bfloat16(self) -> Any:
        self._stay(None, torch.bfloat16)
        return super().bfloat16()

    def float(self) -> Any:
        self._stay(None, torch.float32)
        return super().float()

    def double(self) -> Any:
        self._stay(None, torch.float64)
        return super().double()

    def cpu(self) -> Any:
        self._stay(torch.device("cpu"), None)
        return super().cpu()

    def cuda(self, device: Any = None) -> Any:
        self._stay(_of_type("cuda", device), None)
        return super().cuda(device)

    def xpu(self, device: Any = None) -> Any:
        self._stay(_of_type("xpu", device), None)
        return super().xpu(device)

    def ipu(self, device: Any = None) -> Any:
        self._stay(_of_type("ipu", device), None)
        return super().ipu(device)

    def mtia(self, device: Any = None) -> Any:
        self._stay(_of_type("mtia", device), None)
        return super().mtia(device)

    def to_empty(self, *, device: Any, recurse: bool = True) -> NoReturn:
        raise RecisError(
            "to_empty would leave a table's rows as they happen to be. Tables are never on the meta device and need no "
            "materializing; HashTable.clear() forgets rows, and EmbeddingOption(device=…) says where a table lives."
        )

    def _stay(self, device: torch.device | None, dtype: torch.dtype | None) -> None:
        """Raises RecisError if a table is on another device, or stores another dtype."""
        for table in self._tables_inside():
            here = table.physical.device
            if device is not None and (device.type, device.index or 0) != (here.type, here.index or 0):
                raise RecisError(
                    f"table {table.name!r} lives on {here} and cannot be moved to {device}. Make it there, "
                    f"EmbeddingOption(device={str(device)!r}), and load its state_dict()."
                )
            if dtype is not None and dtype != table.option.dtype:
                raise RecisError(
                    f"table {table.name!r} holds rows in {table.option.dtype}; they cannot be cast to {dtype}. "
                    "EmbeddingOption(dtype=…) is how rows are stored, float32 or bfloat16, and output_dtype=… how they come "
                    "out."
                )

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        """Called by a model's `to`, `cuda`, `half`, `share_memory` and others. Tables stay."""
        if "share_memory" in getattr(fn, "__qualname__", ""):
            raise RecisError(
                "tables cannot be shared between processes by share_memory(). Start a process group, in which each rank "
                "builds the model: rows are then spread over the ranks, and gradients meet."
            )
        return super()._apply(fn, recurse)

    def _replicate_for_data_parallel(self) -> NoReturn:
        raise RecisError(
            "DataParallel would copy tables to each device. Use one process a device and DistributedDataParallel, which "
            "leaves tables alone: their rows are spread over the ranks."
        )

    def __prepare_scriptable__(self) -> NoReturn:
        raise RecisError(
            "tables cannot be scripted: their rows are looked up in Python. Script the dense part, with embedding outputs as "
            "its inputs; torch.compile takes the whole model."
        )

    def __deepcopy__(self, memo: Any) -> NoReturn:
        raise RecisError(
            f"{_called(self)} cannot be deep-copied: its storage is shared and may be larger than memory twice over. Build "
            "a second one and load this one's state_dict(), or export tables by ids() and embeddings(). For an EMA average "
            "the dense part, AveragedModel(model.tower), or keep tables out of the copy and load them at its end."
        )

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        refuse_to_pickle(_called(self))


def _of_type(kind: str, device: Any) -> torch.device:
    """The device of an argument of torch's verbs: an index, a device or None."""
    if device is None:
        return torch.device(kind)
    return torch.device(kind, device) if isinstance(device, int) else torch.device(device)


def _called(module: TableModule) -> str:
    name = getattr(module, "name", None)
    return f"table {name!r}" if isinstance(name, str) else f"an {type(module).__name__}"
