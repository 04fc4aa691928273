"""The errors of recis-core, to catch by name. A wrong type raises TypeError, a wrong value ValueError.

    from recis_core.errors import TableFull

All are RecisErrors, except BridgeError, for tensors between torch and JAX; importing it loads JAX.
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
    NotFitted,
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
    "NotFitted",
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
