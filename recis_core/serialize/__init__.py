"""Saving and loading whole training states, and digests of tables."""

from recis_core.serialize.dcp import dense_state_dict, load_model, load_tables
from recis_core.serialize.digest import tables_sha256
from recis_core.serialize.saved_state import SavedState, latest_state, load_state, save_state
from recis_core.serialize.shared_state import latest_shared_state, save_shared_state

__all__ = [
    "SavedState",
    "dense_state_dict",
    "latest_shared_state",
    "latest_state",
    "load_model",
    "load_state",
    "load_tables",
    "save_shared_state",
    "save_state",
    "tables_sha256",
]
