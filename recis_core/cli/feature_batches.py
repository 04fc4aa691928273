"""Batches of files by a file of features: `recis train --features features.yaml`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
import torch

from recis_core.cli.column_rules import Role, weights_of
from recis_core.cli.columns import DENSE, Columns
from recis_core.cli.data_flags import DataFlags
from recis_core.cli.file_batches import Batch, FileBatches
from recis_core.cli.flags import flag
from recis_core.cli.model_inputs import NONE, ModelInputs, model_inputs
from recis_core.cli.rules_by_flags import nulls_by_flags, require_ids, require_rules, units_by_flags
from recis_core.cli.taker import Taker
from recis_core.features import FeatureEngine
from recis_core.io.file_dataset import FileDataset
from recis_core.io.file_set import FileSet
from recis_core.io.kinds import kind_of as column_kind
from recis_core.plain_torch import without_gradients

FITTING_ROWS = 1 << 16  # of a batch while fitting


class FeatureBatches(FileBatches):
    """As FileBatches, of features that an engine makes of the files' columns.

    fields: their names. widths: {feature: its dense inputs}. Both are known once `look` has seen rows, or are a saved run's.
    """

    def __init__(
        self,
        engine: FeatureEngine,
        columns: Columns,
        taker: Taker,
        fields: Sequence[str] = (),
        widths: Mapping[str, int] = NONE,
    ) -> None:
        super().__init__(columns, taker)
        self.engine = engine
        self.fields, self.widths = list(fields), dict(widths)

    @property
    def dense(self) -> int:
        """How many dense inputs there are."""
        return sum(self.widths.values())

    @property
    def inputs(self) -> list[str]:
        """The columns that features read."""
        return list(self.engine.input_columns)

    def _opened(self, files: FileSet, batch_size: int, groups: Sequence[str] = ()) -> FileDataset:
        dataset = super()._opened(files, batch_size, groups)
        for name, kind in self.engine.input_columns.items():
            if kind != "int":
                dataset.varlen_feature(name, **self.columns.nulls.get(name, {}))
        return dataset

    def fit(self, files: FileSet, rows: int) -> None:
        """Fit the engine, unless the file held its numbers, on the first so many rows: on each rank, with the same bits."""
        if self.engine.fitted:
            return
        dataset = self._opened(files, FITTING_ROWS)
        dataset.window(0, rows)
        self.engine.fit(dataset)

    def look(self, files: FileSet) -> None:
        """Find fields and dense inputs by the first rows."""
        dataset = self._opened(files, FITTING_ROWS)
        dataset.window(0, min(FITTING_ROWS, files.all_rows))
        found = self._made(next(iter(dataset)))
        self.fields, self.widths = list(found.fields), found.widths

    def _made(self, raw: Batch) -> ModelInputs:
        return model_inputs(self.engine({name: raw[name] for name in self.engine.input_columns}, False), self.widths)

    @without_gradients
    def _batch(self, raw: Batch) -> Batch:
        found = self._made(raw)
        if list(found.fields) != self.fields or found.widths != self.widths:
            raise ValueError(
                f"features gave fields {', '.join(found.fields)} and dense inputs {_said(found.widths)}; the model has "
                f"{', '.join(self.fields)} and {_said(self.widths)}. A dense input has one length in all rows."
            )
        batch: Batch = {**found.fields, **self._labels(raw)}
        if found.dense:
            batch[DENSE] = torch.cat(list(found.dense.values()), dim=1)
        return batch


def _said(widths: Mapping[str, int]) -> str:
    return ", ".join(f"{name} of {width}" for name, width in widths.items()) or "none"


def feature_batches(flags: DataFlags, files: FileSet, taker: Taker) -> FeatureBatches:
    """Raises FileNotFoundError or ValueError where the file of features or a column is missing."""
    engine = FeatureEngine.from_yaml(str(flags.features))
    for column in (*engine.input_columns, *filter(None, (flags.label, flags.truth))):
        if column not in files.columns:
            raise ValueError(
                f"{next(iter(files.rows))} has no column {column!r} for --features {flags.features}; it has "
                f"{', '.join(files.columns)}."
            )
    return FeatureBatches(engine, columns_of(engine, flags, files), taker)


def columns_of(engine: FeatureEngine, flags: DataFlags, files: FileSet) -> Columns:
    """The columns of ids that features read; flags say which of them are read as text, as whole floats, with weights, in which
    unit of time, and what nulls become."""
    ids = [name for name, kind in engine.input_columns.items() if kind == "int"]
    for keyword in ("string_columns", "id_columns"):
        for column in getattr(flags, keyword):
            if column not in ids:
                raise ValueError(f"{flag(keyword)} names {column!r}, which no feature reads as integers.")
    for column in (flags.label, flags.truth):
        if column in engine.input_columns:
            raise ValueError(
                f"--label or --truth reads {column!r}, and so does a feature: the model would see its answer."
            )
    require_rules(files, flags)
    weights = weights_of(flags.weight_columns)
    require_ids("weight_columns", weights, ids)
    for column in weights.values():
        if column in engine.input_columns:
            raise ValueError(f"--weight-columns names {column!r} as weights, and a feature reads it as an input.")
    return Columns(
        flags.label, flags.truth, ids, weights, {}, list(flags.string_columns), list(flags.id_columns),
        units_by_flags(flags, ids), nulls_by_flags(flags, {n: _role(files, n, k) for n, k in engine.input_columns.items()}),
    )  # fmt: skip


def _role(files: FileSet, name: str, kind: str) -> Role:
    """Of a feature's input."""
    if kind == "float":
        return "floats"
    return "text" if kind != "int" or any(map(_holds_text, files.types(name))) else "ids"


def _holds_text(kind: pa.DataType) -> bool:
    found = column_kind(kind)
    return found is not None and found.values == "text"
