"""A data set in windows, to train on each and test on the next.

Sizes: R rows of the data set.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from itertools import accumulate, pairwise
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow.compute as pc

from recis_core.io.distinct_values import distinct_values
from recis_core.io.file_set import FileSet
from recis_core.io.position import VERSION

if TYPE_CHECKING:
    from recis_core.io.file_dataset import FileDataset


class Window(NamedTuple):
    """Rows begin .. end, of which `where` is true, if there is one. name: what tells it from the others."""

    name: Any
    begin: int
    end: int
    where: pc.Expression | None = None


class Windows:
    """Pairs (train, test) of neighbouring windows; made by `FileDataset.windows`.

    Both are data sets like the one they are made of. `names` of the windows; `at`, the number of the pair in work.
    """

    def __init__(self, dataset: FileDataset, windows: Sequence[Window], train_last: bool) -> None:
        self._dataset, self._windows, self.at = dataset, list(windows), 0
        self._pairs = len(windows) - (not train_last)
        self._pair: tuple[FileDataset, FileDataset] | None = None
        self._loaded: list[dict[str, Any]] = []

    @property
    def names(self) -> list[Any]:
        return [window.name for window in self._windows]

    def __len__(self) -> int:
        """Number of pairs."""
        return self._pairs

    def __iter__(self) -> Iterator[tuple[FileDataset, FileDataset]]:
        loaded, self._loaded = self._loaded, []
        self.at = loaded[0]["window"] if loaded else 0
        while self.at < self._pairs:
            self._pair = self._opened(self.at)
            if not loaded or not self._resumed(self._pair, loaded):
                yield self._pair
            loaded = []
            self.at, self._pair = self.at + 1, None

    def _opened(self, k: int) -> tuple[FileDataset, FileDataset]:
        last = len(self._windows) == k + 1
        end = self._windows[k].end
        test = Window(None, end, end) if last else self._windows[k + 1]
        return self._dataset.windowed(*self._windows[k][1:]), self._dataset.windowed(*test[1:])

    def _resumed(self, pair: tuple[FileDataset, FileDataset], loaded: list[dict[str, Any]]) -> bool:
        """Load positions; whether both windows are done."""
        if loaded[0]["train"] is None:
            return False
        for name, dataset in zip(("train", "test"), pair, strict=True):
            dataset.load_state_dict([state[name] for state in loaded])
        done = [dataset.ended for dataset in pair]
        for dataset in pair:
            dataset.go_on()
        return all(done)

    def state_dict(self) -> dict[str, Any]:
        """The number of the window, and the positions in it and in the next: plain values."""
        train, test = (None, None) if self._pair is None else (each.state_dict() for each in self._pair)
        names = [str(name) for name in self.names]
        return {"version": VERSION, "window": self.at, "names": names, "train": train, "test": test}

    def load_state_dict(self, state: dict[str, Any] | Sequence[dict[str, Any]]) -> None:
        """Let the next `iter` begin with the pair in work then: its train set has the rows that were left, none after its
        end; so has its test set. A pair that was done is left out.

        Args:
          state: `state_dict()`, or a list with that of every worker, of the same or another number of workers.

        Raises:
          ValueError: windows differ from those of then, or workers were in different ones. When iterated: as
            `Dataset.load_state_dict`.
        """
        states = [state] if isinstance(state, dict) else list(state)
        names = [str(name) for name in self.names]
        for each in states:
            if each["names"] != names[: len(each["names"])]:
                raise ValueError(f"windows must be those of then, {each['names']}, and later ones; got {names}.")
            if each["window"] != states[0]["window"]:
                raise ValueError(f"workers must be in one window; got {states[0]['window']} and {each['window']}.")
        self._loaded = states


def by_files(files: FileSet, count: int) -> list[Window]:
    """Windows of `count` files; the last may have fewer. The name is the first file's."""
    paths = list(files.rows)
    edges = [0, *accumulate(files.rows.values())]
    firsts = range(0, len(paths), count)
    return [Window(paths[k], edges[k], edges[min(k + count, len(paths))]) for k in firsts]


def by_rows(rows: int, count: int) -> list[Window]:
    """Windows of `count` rows; the last may have fewer. The name is the first row's number."""
    return [Window(begin, begin, min(begin + count, rows)) for begin in range(0, rows, count)]


def by_pattern(files: FileSet, pattern: str) -> list[Window]:
    """A window for each text that the pattern finds in files' paths. Files must be in the order of `in_order_of`."""
    edges, names = [0, *accumulate(files.rows.values())], keys_of(files, pattern)
    starts = [k for k, name in enumerate(names) if k == 0 or name != names[k - 1]]
    return [Window(names[a], edges[a], edges[b]) for a, b in pairwise([*starts, len(names)])]


def keys_of(files: FileSet, pattern: str) -> list[str]:
    """What the pattern finds in each path: its first group, or all of it. Raises ValueError at a path without it."""
    compiled, found = re.compile(pattern), []
    for path in files.rows:
        match = compiled.search(path)
        if match is None:
            raise ValueError(f"pattern {pattern!r} must be found in the path of every file; it is not in {path}.")
        found.append(match[1] if compiled.groups else match[0])
    return found


def in_order_of(files: FileSet, pattern: str) -> FileSet:
    """The files sorted by what the pattern finds: as numbers if all are, else as text."""
    keys = keys_of(files, pattern)
    numbers = all(key.isdecimal() for key in keys)
    ranks = [int(key) if numbers else key for key in keys]
    order = [path for _, path in sorted(zip(ranks, files.rows, strict=True), key=itemgetter(0))]
    return FileSet(**{f.name: {path: getattr(files, f.name)[path] for path in order} for f in fields(files)})


def by_column(files: FileSet, column: str, rows_of_pieces: Callable[[str], list[int]]) -> list[Window]:
    """A window for each value of a column, in rising order: the rows of the value, wherever they are."""
    found = distinct_values(files, column, rows_of_pieces)
    return [Window(value, *found[value], pc.field(column) == pc.scalar(value)) for value in sorted(found)]
