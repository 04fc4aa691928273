"""Saving and loading whole training states, and digests of tables."""

from recis_core.serialize.checkpoint import (
    Checkpoint,
    CheckpointWriter,
    TableInfo,
    load_rows,
    new_checkpoint,
    open_checkpoint,
)
from recis_core.serialize.dcp import dense_state_dict, load_model, load_tables
from recis_core.serialize.digest import tables_sha256
from recis_core.serialize.imports import (
    LoadedTables,
    RecisCheckpoint,
    StoredTable,
    TableSource,
    arrays_source,
    embedding_source,
    load_tables_from,
    parquet_source,
    recis_source,
    state_source,
    torchrec_source,
    write_recis_checkpoint,
)
from recis_core.serialize.saved_state import SavedState, latest_state, load_state, save_state
from recis_core.serialize.shared_state import latest_shared_state, save_shared_state
from recis_core.serialize.table_block import TableBlock

__all__ = [
    "Checkpoint",
    "CheckpointWriter",
    "LoadedTables",
    "RecisCheckpoint",
    "SavedState",
    "StoredTable",
    "TableBlock",
    "TableInfo",
    "TableSource",
    "arrays_source",
    "dense_state_dict",
    "embedding_source",
    "latest_shared_state",
    "latest_state",
    "load_model",
    "load_rows",
    "load_state",
    "load_tables",
    "load_tables_from",
    "new_checkpoint",
    "open_checkpoint",
    "parquet_source",
    "recis_source",
    "save_shared_state",
    "save_state",
    "state_source",
    "tables_sha256",
    "torchrec_source",
    "write_recis_checkpoint",
]
