"""What recis-core raises, to catch by name. Beside these it raises TypeError for a wrong kind and ValueError for a wrong value.

    from recis_core.errors import TableFull

All but BridgeError, which is of tensors between torch and JAX and loads JAX, are a RecisError.
"""

from typing import TYPE_CHECKING, Any

from recis_core.backends.errors import (
    BackendUnavailable,
    CorruptCheckpoint,
    CorruptStorage,
    ExchangeFailed,
    ExchangeMismatch,
    NonFiniteGradient,
    NotAFile,
    PacketError,
    PlanDoesNotFit,
    RecisError,
    StateMismatch,
    StorageFull,
    StorageInUse,
    StreamGap,
    TableFull,
    TableLost,
)

if TYPE_CHECKING:
    from recis_core.bridge.errors import BridgeError

__all__ = [
    "BackendUnavailable",
    "BridgeError",
    "CorruptCheckpoint",
    "CorruptStorage",
    "ExchangeFailed",
    "ExchangeMismatch",
    "NonFiniteGradient",
    "NotAFile",
    "PacketError",
    "PlanDoesNotFit",
    "RecisError",
    "StateMismatch",
    "StorageFull",
    "StorageInUse",
    "StreamGap",
    "TableFull",
    "TableLost",
]


def __getattr__(name: str) -> Any:
    if name == "BridgeError":
        from recis_core.bridge.errors import BridgeError

        return BridgeError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
