"""MovieLens-100k as sequences, read from the installed package recbole, which is never imported.

Sizes: U users, N ratings, M items.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recis_core.ragged import RaggedTensor

FILE = "dataset_example/ml-100k/ml-100k.inter"
NOTE = (
    "MovieLens-100k, GroupLens Research, University of Minnesota: for research, not for commerce, and not to be passed on "
    "without their permission. Cite Harper and Konstan 2015, doi:10.1145/2827872. Read from the installed package recbole."
)


@dataclass(frozen=True)
class Ratings:
    """Each user's ratings, oldest first. items: int64 [N], 0 to M − 1. times: int64 [N], seconds. starts: [U + 1]."""

    items: np.ndarray
    times: np.ndarray
    starts: np.ndarray

    @property
    def users(self) -> int:
        return len(self.starts) - 1

    @property
    def item_count(self) -> int:
        return int(self.items.max()) + 1


@dataclass(frozen=True)
class Sequences:
    """Histories and what came next. of_each_row: `next` has an item for each row of the history, else for each user."""

    history: RaggedTensor
    timestamps: RaggedTensor
    next: Tensor
    of_each_row: bool


def installed_file() -> Path:
    """The file of ratings.

    Raises:
      FileNotFoundError: recbole is not installed, or holds no such file.
    """
    found = importlib.util.find_spec("recbole")
    folders = [] if found is None else list(found.submodule_search_locations or [])
    files = [Path(folder, FILE) for folder in folders]
    if not files or not files[0].is_file():
        raise FileNotFoundError(
            f"MovieLens-100k is read from {FILE} of the package recbole, which is not installed here. "
            "pip install --no-deps recbole==1.2.1"
        )
    return files[0]


def read(path: Path) -> Ratings:
    """Ratings of all values count. Of one user and one second they keep the file's order."""
    users, items, times = np.loadtxt(path, dtype=np.int64, delimiter="\t", skiprows=1, usecols=(0, 1, 3), unpack=True)
    order = np.lexsort((times, users))
    _, counts = np.unique(users, return_counts=True)
    _, numbers = np.unique(items, return_inverse=True)
    return Ratings(numbers[order].astype(np.int64), times[order], np.concatenate([[0], counts.cumsum()]))


def training(ratings: Ratings, users: np.ndarray, longest: int) -> Sequences:
    """Leave-one-out: of each user all ratings but the last two, the newest `longest` + 1 of them."""
    return _cut(ratings, users, left=2, longest=longest, every=True)


def held_out(ratings: Ratings, users: np.ndarray, longest: int, *, left: int) -> Sequences:
    """What comes before the last rating (left=1, the test) or the last but one (left=2), and that rating."""
    return _cut(ratings, users, left=left, longest=longest, every=False)


def _cut(ratings: Ratings, users: np.ndarray, *, left: int, longest: int, every: bool) -> Sequences:
    ends = ratings.starts[users + 1] - left - every  # of histories; what comes next lies one further
    starts = np.maximum(ratings.starts[users], ends - longest)
    rows = np.concatenate([np.arange(a, b) for a, b in zip(starts, ends, strict=True)])
    offsets = torch.from_numpy(np.concatenate([[0], (ends - starts).cumsum()]))
    following = rows + 1 if every else ends
    return Sequences(
        RaggedTensor(torch.from_numpy(ratings.items[rows]), offsets),
        RaggedTensor(torch.from_numpy(ratings.times[rows]), offsets),
        torch.from_numpy(ratings.items[following]),
        every,
    )
