"""Positions in files: which files and rows they mean, and whether these are the same now."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Any

from recis_core.io.column_dataset import ColumnDataset
from recis_core.io.done_rows import done_rows
from recis_core.io.file_marks import FileMark, SavedOrder, listed, mark_of, saved_files
from recis_core.io.intervals import Intervals
from recis_core.io.position import Position, merged, require_equal
from recis_core.io.row_order import RowOrder


class FilePosition(ColumnDataset):
    """A dataset of files, whose rows have an order in each epoch."""

    def __init__(
        self, *where: Any, shuffle_seed: int | None, shuffle_buffer: int, buffer_seed: int | None, **options: Any
    ) -> None:
        super().__init__(*where, **options)
        self._seed, self._buffer, self._buffer_seed = shuffle_seed, shuffle_buffer, buffer_seed
        self._window: tuple[int, int] | None = None
        self._saved_order = SavedOrder()
        self._marks: dict[str, FileMark] = {}

    @abstractmethod
    def _order(self, epoch: int) -> RowOrder: ...

    @property
    def _groups(self) -> list[list[str]]:
        """Files in the order of this epoch; those that came during it are groups of their own."""
        return self._saved_order.groups_in(self._position.epoch) or [list(self.files.rows)]

    def done_rows(self) -> dict[str, list[list[int]]]:
        """Which rows of which files are done in this epoch: {file: [[begin, end], …]}, counted from 0.

        Of this worker, and what all workers had done when rows were last divided.
        """
        at = self._position.cut_for(self._who)
        done = Intervals.of([(0, self.rows)]) if at.ended else at.finished(self.rows, self._share_of)
        return done_rows(self._order(at.epoch), done)

    def _identity(self) -> dict[str, Any]:
        files = listed([[self._mark(path) for path in group] for group in self._groups])
        return {"files": files, **self._row_order}

    @property
    def _row_order(self) -> dict[str, Any]:
        shuffles = {"shuffle_seed": self._seed, "shuffle_buffer": self._buffer, "buffer_seed": self._buffer_seed}
        return {"window": list(self._window or ()), **shuffles}

    def _mark(self, path: str) -> FileMark:
        if path not in self._marks:
            self._marks[path] = mark_of(path, self.files.rows[path])
        return self._marks[path]

    def _accepted(self, states: list[dict[str, Any]], allow_new_files: bool) -> list[Position]:
        for state in states:
            require_equal(self._row_order, {"shuffle_buffer": 0, "buffer_seed": None, **state})
        saved = saved_files(states, self.files.rows)
        came = saved.came(self.files.rows)
        if came and not allow_new_files:
            raise ValueError(
                f"{came[0]} came since the position was saved ({len(came)} new in all). Give load_state_dict(…, "
                "allow_new_files=True) to read its rows, too, after the others; or read the files of then."
            )
        if self._window is not None and [*saved.paths, *came] != list(self.files.rows):
            raise ValueError(
                "with a window files must be in the order of then, new ones last: it counts rows in that order."
            )
        positions = [Position.from_dict(state) for state in states]
        if not came or self._window is not None:
            return positions
        whole = merged(positions, sum(self.files.rows[path] for path in saved.paths), self._share_of)
        return [replace(whole, ended=False)]

    def _load(self, positions: list[Position], states: list[dict[str, Any]]) -> None:
        super()._load(positions, states)
        saved = saved_files(states, self.files.rows)
        came = saved.came(self.files.rows)
        groups = saved.groups + ([came] if came else [])
        self._saved_order = SavedOrder(self._position.epoch, groups)
