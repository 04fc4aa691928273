"""Datasets: Parquet, ORC, CSV and Arrow files, and synthetic click logs, as batches of features."""

from recis_core.io.dataset import Dataset
from recis_core.io.file_dataset import ArrowDataset, CsvDataset, OrcDataset, ParquetDataset, dataset_of
from recis_core.io.hashing import hash_strings
from recis_core.io.mixed import MixedDataset
from recis_core.io.synthetic import (
    SyntheticChoices,
    SyntheticClicks,
    SyntheticDataset,
    SyntheticHistories,
    SyntheticTasks,
    bayes_auc,
    bayes_logloss,
    expected_auc,
    expected_logloss,
    write_orc,
    write_parquet,
)
from recis_core.io.windows import Windows

__all__ = [
    "ArrowDataset",
    "CsvDataset",
    "Dataset",
    "MixedDataset",
    "OrcDataset",
    "ParquetDataset",
    "SyntheticChoices",
    "SyntheticClicks",
    "SyntheticDataset",
    "SyntheticHistories",
    "SyntheticTasks",
    "Windows",
    "bayes_auc",
    "bayes_logloss",
    "dataset_of",
    "expected_auc",
    "expected_logloss",
    "hash_strings",
    "write_orc",
    "write_parquet",
]
