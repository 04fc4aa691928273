"""Files for `python -m bench io`: the click log, lists of ids, columns of text.

Sizes: R rows.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from recis_core.io import SyntheticClicks, dataset_of, write_parquet
from recis_core.io.file_dataset import FileDataset

CLICK_LOG = Path(
    os.environ.get("RECIS_CLICK_LOG", Path(__file__).resolve().parents[2] / "shared" / "data" / "click-log")
)
FILES = 4
AGAIN = 5  # how often the click log, which is read in a tenth of a second, is in its data set


@dataclass(frozen=True)
class Workload:
    """columns: those that are read, as lists of numbers, or as text that becomes ids."""

    name: str
    files: list[Path]
    columns: list[str]
    text: bool = False

    def dataset(self, batch_size: int, **options: object) -> FileDataset:
        """Ours, as a user writes it."""
        data = dataset_of(self.files[0])(batch_size, **options)
        data.add_paths(self.files)
        for name in self.columns:
            (data.id_feature if self.text else data.varlen_feature)(name)
        return data


def click_log(folder: Path, rows: int, seed: int) -> Workload:
    """The real one, 13 columns of floats and 26 of ids in lists and a label; where it is missing, a planted one.

    Links give the real one's files several names, so that it is read AGAIN times in a pass: in one time, starting and ending
    threads would be much of what is measured.
    """
    held = sorted(CLICK_LOG.glob("*.orc"))
    if not held:
        clicks = SyntheticClicks("criteo-shape", seed)
        files = [folder / f"clicks-{k}.parquet" for k in range(FILES)]
        for k, file in enumerate(files):
            write_parquet(clicks, file, rows // FILES, start=k * (rows // FILES))
        return Workload("click log, planted", files, [field.name for field in clicks.preset.fields])
    files = [folder / f"{k}-{file.name}" for k in range(AGAIN) for file in held]
    for k, link in enumerate(files):
        link.symlink_to(held[k % len(held)])
    names = [*(f"i{k}" for k in range(1, 14)), *(f"c{k}" for k in range(1, 27)), "label"]
    return Workload("click log", files, names)


def lists(folder: Path, rows: int, seed: int) -> Workload:
    """26 columns of 0 to 8 int64 ids a row."""

    def column(rng: np.random.Generator, count: int) -> pa.Array:
        offsets = np.concatenate([[0], rng.integers(0, 9, count).cumsum()])
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(rng.integers(0, 1 << 40, offsets[-1])))

    return Workload("26 lists of int64", *_written(folder, "lists", 26, rows, seed, column))


def texts(folder: Path, rows: int, seed: int) -> Workload:
    """100 columns of text: 10,000 words of 4 to 20 letters, Zipf."""
    letters = np.random.default_rng(seed).integers(97, 123, (10_000, 20), np.uint8)
    words = pa.array([bytes(row[: 4 + k % 17]).decode() for k, row in enumerate(letters)])

    def column(rng: np.random.Generator, count: int) -> pa.Array:
        return words.take(pa.array(np.minimum(rng.zipf(1.2, count) - 1, len(words) - 1)))

    return Workload("100 columns of text", *_written(folder, "texts", 100, rows, seed, column), text=True)


def _written(
    folder: Path, name: str, columns: int, rows: int, seed: int, column: Callable[[np.random.Generator, int], pa.Array]
) -> tuple[list[Path], list[str]]:
    names, files = [f"{name}{k}" for k in range(columns)], [folder / f"{name}-{k}.parquet" for k in range(FILES)]
    for k, file in enumerate(files):
        rng = np.random.default_rng([seed, k])
        table = pa.table({each: column(rng, rows // FILES) for each in names})
        pyarrow.parquet.write_table(table, file, row_group_size=max(1, rows // FILES // 2))
    return files, names
