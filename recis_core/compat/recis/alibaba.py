"""RecIS's names for services of Alibaba: each raises with its way out when it is imported."""

from __future__ import annotations

from typing import NoReturn

ODPS = "reads Alibaba's MaxCompute. Export the table to ORC files, and read them by OrcDataset."
LAKE = (
    "reads Alibaba's data lake. Read ORC files by OrcDataset, or other files by recis_core.io, from any fsspec store."
)
TRACKER = "reports to Alibaba's services. recis_core.hooks has TensorBoard and JSON lines."
MOS = "is Alibaba's model store. Give output_dir and model_bank paths of a file system."
CRYPTO = "reads Alibaba's encrypted settings. Give settings in plain files or variables."

NAMES = {
    "OdpsDataset": ODPS, "make_odps_window_io": ODPS, "make_odps_sample_io": ODPS, "TraceToOdpsHook": ODPS, "add_to_trace": ODPS,
    "LakeStreamDataset": LAKE, "LakeBatchDataset": LAKE, "make_lake_stream_window_io": LAKE,
    "MLTrackerHook": TRACKER, "add_to_ml_tracker": TRACKER, "Mos": MOS, "crypto_utils": CRYPTO,
    "odps_dataset": ODPS, "lake_dataset": LAKE, "ml_tracker_hook": TRACKER, "trace_to_odps_hook": ODPS, "mos": MOS,
}  # fmt: skip


def refuse(module: str, name: str) -> NoReturn:
    """Raises ImportError for a name of Alibaba's services, AttributeError for any other."""
    if name in NAMES:
        raise ImportError(f"{name} {NAMES[name]}")
    raise AttributeError(f"module {module!r} has no attribute {name!r}")
