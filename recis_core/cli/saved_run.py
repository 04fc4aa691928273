"""The model of a saved run, built again, and files read as that run read them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from recis_core.backends.errors import StateMismatch
from recis_core.cli.build import build_model
from recis_core.cli.cache import CacheFlags, named_by_flags
from recis_core.cli.column_kinds import require_kinds
from recis_core.cli.columns import Columns
from recis_core.cli.data_flags import DataFlags
from recis_core.cli.feature_batches import FeatureBatches
from recis_core.cli.file_batches import Batch, FileBatches
from recis_core.cli.flags import flag, keywords
from recis_core.cli.model import ModelFlags
from recis_core.cli.outset import check_files, find_state
from recis_core.cli.run_parts import part_of_run, where_of
from recis_core.cli.source import TEST_BATCH
from recis_core.cli.taker import Taker
from recis_core.cli.train_config import TrainConfig
from recis_core.features import FeatureEngine
from recis_core.io import dataset_of
from recis_core.io.file_set import FileSet
from recis_core.io.synthetic.write import WEIGHT_SUFFIX
from recis_core.serialize import SavedState, load_model
from recis_core.serialize.parts import naming
from recis_core.serialize.store_path import Place

# The run's flags that decide how its model is built and how its files are read.
BUILDING = (
    *keywords(DataFlags).values(),
    *keywords(ModelFlags).values(),
    *keywords(CacheFlags).values(),
    "admit",
    "seed",
)


@dataclass(frozen=True, kw_only=True)
class SavedRunFlags:
    """What every command of a saved run takes."""

    state: str
    """A directory or URL given to --save, whose latest state is taken, or one state."""
    data: str
    """Path, folder or glob of files, read as the run read its files; columns that the run did not read are ignored."""
    backend: Literal["auto", "torch", "numba", "jax", "pallas"] | None = None
    """Default: RECIS_BACKEND, else auto."""
    batch_size: Annotated[int, Field(ge=1)] = TEST_BATCH
    """Rows of a batch."""
    cache_disk: str | None = None
    """Where the run had rows on disk: another directory for them."""
    json: bool = False
    """One JSON object instead of words."""


class SavedRun:
    """The run that saved a state.

    Args:
      directory: of states, of which the latest is taken, or one state.

    Raises:
      FileNotFoundError: there is none. CorruptCheckpoint: it is damaged, or does not describe its run.
    """

    def __init__(self, directory: str) -> None:
        self.state = SavedState(find_state("state", directory))
        settings, run = part_of_run(self.state, "settings"), part_of_run(self.state, "run")
        if settings is None or run is None:
            raise StateMismatch(
                f"{self.path} does not say how its model was built. recis train --save writes that; a state from before "
                "can be resumed with its flags, which saves it anew, or read by recis_core.serialize.load_model."
            )
        with naming(self.state, where_of(self.state, "settings")):
            self.config = TrainConfig(**{name: settings[name] for name in BUILDING if name in settings})
        with naming(self.state, where_of(self.state, "run")):
            self.fields: list[str] = list(run["features"]["fields"])
            self.dense = int(run["features"]["dense"])
            self.kinds: dict[str, str] = dict(run["features"].get("kinds", {}))
            saved = run["features"].get("columns")
            self._columns = None if saved is None else Columns(**saved)
            self._engine, self._widths = run["features"].get("engine"), run["features"].get("widths", {})

    @property
    def path(self) -> Place:
        return self.state.path

    def model(self, device: str, cache_disk: str | None = None) -> nn.Module:
        """In eval mode, with its tables' rows. Collective."""
        config = self.config
        if cache_disk is not None:
            config = dataclasses.replace(config, cache=dataclasses.replace(config.cache, disk=cache_disk))
        torch.manual_seed(config.seed)
        model = build_model(config, self).to(device)
        with named_by_flags():
            load_model(str(self.path), model)
        return model.eval()

    def columns(self, files: FileSet, label: str | None, truth: str | None) -> Columns:
        """The run's columns, with this label and truth. Of a preset, as `recis data synth` names them."""
        if self._columns is not None:
            return dataclasses.replace(self._columns, label=label, truth=truth)
        weights = {name: name + WEIGHT_SUFFIX for name in self.fields if name + WEIGHT_SUFFIX in files.columns}
        return Columns(label, truth, self.fields, weights, {}, [], [])

    def reader(self, columns: Columns, taker: Taker) -> FileBatches:
        """Batches of files as the run read its own."""
        if self._engine is None:
            return FileBatches(columns, taker)
        with naming(self.state, where_of(self.state, "run")):
            engine = FeatureEngine.from_dict(self._engine)
        return FeatureBatches(engine, columns, taker, self.fields, self._widths)

    @property
    def label(self) -> str:
        """The column that the run read labels from."""
        return str(self.config.data.label or "label")


def files_of(data: str) -> FileSet:
    """Raises FileNotFoundError where there is none, ValueError where one is damaged."""
    check_files("data", data)
    return FileSet().added(data, dataset_of(data).form)


def batches_of(
    run: SavedRun,
    files: FileSet,
    taker: Taker,
    label: str | None,
    truth: str | None,
    rows: int = TEST_BATCH,
    groups: Sequence[str] = (),
) -> Iterator[Batch]:
    """All rows of files, in order, with columns of groups for metrics.

    Raises:
      ValueError, TypeError: a file lacks a column that the model takes, or holds another kind of value in it than those that
        the run was trained on.
    """
    for name, column, more in (("label", label, " recis predict scores rows without labels."), ("truth", truth, "")):
        if column is not None and column not in files.columns:
            raise ValueError(
                f"{next(iter(files.rows))} has no column {column!r} for {flag(name)}; it has {', '.join(files.columns)}.{more}"
            )
    columns = run.columns(files, label, truth)
    reader = run.reader(columns, taker)
    for name, column in (("label", label), ("truth", truth)):
        if column is not None and column in (*reader.inputs, *columns.weights.values()):
            raise ValueError(f"{flag(name)} names {column!r}, which the run reads as an input.")
    reader.check(files)
    reader.check_groups(groups, files)
    require_kinds(run.kinds, columns, files)
    return reader.batches(files, rows, 0, files.all_rows, groups)
