"""Where `recis train` gets its batches: a synthetic preset, or files.

Every rank takes its rows of each batch. A preset makes those rows alone; of files a rank reads the row groups that
they lie in, and makes tensors of those rows alone. Keys of fields are `columns.field_name`.

A batch: {"label": float32 [B], field: ids …, "dense": float32 [B, X] if there are dense columns}.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from recis_core.cli.column_kinds import kinds_of
from recis_core.cli.columns import choose
from recis_core.cli.data_flags import DataFlags
from recis_core.cli.feature_batches import FeatureBatches, feature_batches
from recis_core.cli.file_batches import Batch, FileBatches
from recis_core.cli.taker import ALONE, Taker
from recis_core.cli.train_config import TrainConfig
from recis_core.io import SyntheticClicks, dataset_of
from recis_core.io.file_set import FileSet

TEST_BATCH = 8192


class Source(Protocol):
    """Training rows and test rows of all ranks; batches of this rank's.

    fields: names of sparse features. dense: number of dense columns.
    """

    fields: list[str]
    dense: int
    train_rows: int

    def features(self) -> dict[str, Any]:
        """What a model of it is made of, for a saved run: plain values."""
        ...

    def train_batches(self, batch_size: int, *, first_row: int = 0) -> Iterator[Batch]:
        """One epoch in order, from its row `first_row` on."""
        ...

    def test_batches(self) -> Iterator[Batch]: ...


def open_source(config: TrainConfig, taker: Taker = ALONE) -> Source:
    """Raises ValueError or FileNotFoundError where the config names nothing to train on."""
    data = config.data
    if data.preset is not None:
        preset = PresetSource(data.preset, config.seed, data.rows, data.test_fraction, taker)
        _require_fields(preset, config.log.groups)
        return preset
    return FileSource(data, taker, config.log.groups)


class PresetSource:
    """A planted-truth click log; batches also hold "p", the true probabilities."""

    dense = 0

    def __init__(self, preset: str, seed: int, rows: int | None, test_fraction: float, taker: Taker) -> None:
        self._taker = taker
        self._clicks = SyntheticClicks(preset, seed)
        self.fields = [field.name for field in self._clicks.preset.fields]
        self._rows = rows or self._clicks.preset.rows
        self.train_rows = _split(self._rows, test_fraction, f"preset {preset}")

    def features(self) -> dict[str, Any]:
        return {"fields": self.fields, "dense": self.dense}

    def train_batches(self, batch_size: int, *, first_row: int = 0) -> Iterator[Batch]:
        return iter(self._taker.of(self._clicks.dataset(batch_size, start=first_row, stop=self.train_rows)))

    def test_batches(self) -> Iterator[Batch]:
        return iter(self._taker.of(self._clicks.dataset(TEST_BATCH, start=self.train_rows, stop=self._rows)))


class FileSource:
    """Files: columns of ids are sparse fields, columns of floats dense inputs, as `columns.choose` sorts them."""

    def __init__(self, flags: DataFlags, taker: Taker, groups: Sequence[str] = ()) -> None:
        data, test = str(flags.files), flags.test_files
        self._train = self._test = _files_of(data)
        self.train_rows, self._test_begin = self._train.all_rows, 0
        if test is None:
            self.train_rows = self._test_begin = _split(self.train_rows, flags.test_fraction, data)
        else:
            self._test = _files_of(test)
            _require_rows(self._train, data)
            _require_rows(self._test, test)
        both = self._train.beside(self._test)
        self._reader = self._opened(flags, both, taker)
        self._groups = groups
        self._reader.check_groups(groups, self._test)
        self.fields, self.dense = self._reader.fields, self._reader.dense

    def _opened(self, flags: DataFlags, both: FileSet, taker: Taker) -> FileBatches:
        if flags.features is None:
            plain = FileBatches(choose(both, flags), taker)
            plain.check(self._train, self._test, both)
            return plain
        made = feature_batches(flags, both, taker)
        made.check(self._train, self._test, both)
        made.fit(self._train, self.train_rows)
        made.look(self._train)
        return made

    def features(self) -> dict[str, Any]:
        columns = self._reader.columns
        kinds = kinds_of(columns, self._train)
        found = {"fields": self.fields, "dense": self.dense, "columns": asdict(columns), "kinds": kinds}
        if isinstance(self._reader, FeatureBatches):
            found |= {"engine": self._reader.engine.to_dict(), "widths": self._reader.widths}
        return found

    def train_batches(self, batch_size: int, *, first_row: int = 0) -> Iterator[Batch]:
        return self._reader.batches(self._train, batch_size, first_row, self.train_rows)

    def test_batches(self) -> Iterator[Batch]:
        return self._reader.batches(self._test, TEST_BATCH, self._test_begin, self._test.all_rows, self._groups)


def _require_fields(source: Source, groups: Sequence[str]) -> None:
    for column in groups:
        if column not in source.fields:
            raise ValueError(f"--metrics: the preset has no field {column!r}; it has {', '.join(source.fields)}.")


def _files_of(path: str) -> FileSet:
    return FileSet().added(path, dataset_of(path).form)


def _require_rows(files: FileSet, path: str) -> None:
    if not files.all_rows:
        raise ValueError(f"{path} holds no rows; it needs one at least.")


def _split(rows: int, test_fraction: float, data: str) -> int:
    """Rows before the test's: the last ones are held out, for logs are in order of time."""
    train = rows - max(1, round(rows * test_fraction))
    if train < 1:
        raise ValueError(
            f"a test fraction of {test_fraction} of the {rows} rows of {data} leaves none to train on. --test-fraction says "
            "another, --test-data names files for the test."
        )
    return train
