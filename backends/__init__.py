"""Four implementations of one table contract, chosen by RECIS_BACKEND."""

from backends.interface import Backend
from backends.records import EncodedRows, Evicted, LookupCall, Partition, Request, RowNoise, Snapshot
from backends.selection import available, describe, get, select
from backends.spec import Clock, Counters, LookupMode, RowCodec, SlotSpec, TableSpec, UpdateRule

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
