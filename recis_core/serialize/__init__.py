"""Saving and loading whole training states, and digests of tables."""

from recis_core.serialize.dcp import dense_state_dict, load_model, load_tables
from recis_core.serialize.digest import tables_sha256
from recis_core.serialize.saved_state import latest_state, load_state, save_state

__all__ = [
    "dense_state_dict",
    "latest_state",
    "load_model",
    "load_state",
    "load_tables",
    "save_state",
    "tables_sha256",
]
