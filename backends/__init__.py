"""Four implementations of one table contract, chosen by RECIS_BACKEND."""

from recis_core.backends.interface import Backend
from recis_core.backends.records import EncodedRows, Evicted, LookupCall, Partition, Request, RowNoise, Snapshot
from recis_core.backends.selection import available, describe, get, select
from recis_core.backends.spec import Clock, Counters, LookupMode, RowCodec, SlotSpec, TableSpec, UpdateRule

__all__ = [
    "Backend",
    "Clock",
    "Counters",
    "EncodedRows",
    "Evicted",
    "LookupCall",
    "LookupMode",
    "Partition",
    "Request",
    "RowCodec",
    "RowNoise",
    "SlotSpec",
    "Snapshot",
    "TableSpec",
    "UpdateRule",
    "available",
    "describe",
    "get",
    "select",
]
