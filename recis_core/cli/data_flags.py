"""The flags that say what a run is trained and tested on, and which columns of files it reads, as what."""

from __future__ import annotations

import os
from collections import Counter
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from recis_core.cli.column_rules import nulls_of, units_of, weights_of
from recis_core.cli.data_files import fingerprint
from recis_core.cli.flags import flag, named, plain_errors
from recis_core.cli.outset import check_files
from recis_core.io.synthetic import PRESETS

KINDS = ("string_columns", "id_columns", "dense_columns")
NAMES = ("columns", "skip", *KINDS)
RULES = ("weight_columns", "time_units", "nulls")


@plain_errors
@dataclass(frozen=True, kw_only=True)
class DataFlags:
    """What is trained on: a synthetic preset, or files and their columns."""

    preset: str | None = None
    """Synthetic click log with a known optimum: tiny, small, criteo-shape, drift, adversarial."""
    rows: Annotated[int | None, Field(ge=2)] = None
    """With --preset: samples in all, training and test; default: the preset's."""
    files: Annotated[str | None, named("data")] = None
    """Path, folder, glob or URL (s3://…) of Parquet, ORC, CSV or Arrow IPC files. Columns of floats are dense inputs x, taken as
    sign(x)·log(1 + |x|), 0 where empty; all others are ids: integers as they are, text hashed, dates and timestamps as
    integers; FIELD_weight weights the ids of FIELD."""
    label: str | None = None
    """With --data: the label column, 0 or 1."""
    features: str | None = None
    """With --data: a file of features (docs/features.md), which says what the model's inputs are: integers that it makes are ids,
    floats dense inputs. What is not fitted in it is fitted on the training rows first. Default: every column, by its kind."""
    truth: str | None = None
    """With --data: a column of true click probabilities, as p of `recis data synth`. It is never an input; the test
    reports its AUC as bayes_auc."""
    columns: tuple[str, ...] = ()
    """With --data: the columns to read, beside --label and --truth. Default: all."""
    skip: tuple[str, ...] = ()
    """With --data: columns to leave out."""
    string_columns: tuple[str, ...] = ()
    """With --data: columns to read as text whatever they hold, so that files may mix kinds; their text is hashed to ids."""
    id_columns: tuple[str, ...] = ()
    """With --data: columns of floats that are ids, whole numbers, as pandas writes integers with nulls."""
    dense_columns: tuple[str, ...] = ()
    """With --data: columns of integers, bools or decimals that are dense inputs, as floats are."""
    weight_columns: tuple[str, ...] = ()
    """With --data: COLUMN=WEIGHTS, a column of floats, one for each id of COLUMN in its row; beside FIELD_weight, whose name says
    so."""
    time_units: tuple[str, ...] = ()
    """With --data: COLUMN=UNIT, ns, us, ms, s, min, hour or day: a column of dates, timestamps, times or durations is ids counted
    in that unit, rounded down. Default: dates in days, others in us."""
    nulls: tuple[str, ...] = ()
    """With --data: COLUMN=RULE for nulls: error refuses them, default(VALUE) reads them as VALUE, before anything is made of it;
    drop leaves them out of ids. Default: drop of ids, default(0) of dense inputs."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of rows, the last ones, kept for the test."""
    test_files: Annotated[str | None, named("test_data")] = None
    """With --data: glob of test files; then no row of --data is held out."""

    def __post_init__(self) -> None:
        if (self.preset is None) == (self.files is None):
            raise ValueError("give --preset NAME or --data GLOB, one of the two.")
        if self.preset is not None and self.preset not in PRESETS:
            raise ValueError(f"--preset must be one of {', '.join(PRESETS)}; got {self.preset!r}.")
        if self.files is not None and self.label is None:
            raise ValueError("--data needs --label COLUMN.")
        for keyword, value in (("label", self.label), ("test_data", self.test_files)):
            if self.preset is not None and value is not None:
                raise ValueError(f"{flag(keyword)} goes with --data; --preset brings its own.")
        self._check_columns()
        if self.files is not None and self.rows is not None:
            raise ValueError("--rows goes with --preset.")

    def _check_columns(self) -> None:
        given = [name for name in (*NAMES, *RULES, "truth", "features") if getattr(self, name)]
        if given and self.files is None:
            raise ValueError(f"{flag(given[0])} goes with --data; --preset brings its own columns.")
        for name in ("columns", "skip", "dense_columns") if self.features is not None else ():
            if getattr(self, name):
                raise ValueError(f"{flag(name)} chooses columns, and so does --features; give one of the two.")
        for name in NAMES:
            twice = [column for column, times in Counter(getattr(self, name)).items() if times > 1]
            if twice:
                raise ValueError(f"{flag(name)} names {twice[0]!r} twice.")
        weights_of(self.weight_columns), units_of(self.time_units), nulls_of(self.nulls)
        self._check_once(KINDS)
        for name in ("columns", *KINDS):
            self._check_once(("skip", name))

    def _check_once(self, names: tuple[str, ...]) -> None:
        """No column under two of these flags."""
        found: dict[str, str] = {}
        for name in names:
            for column in getattr(self, name):
                other = found.setdefault(column, name)
                if other != name:
                    raise ValueError(f"{flag(other)} and {flag(name)} both name {column!r}; give it to one of them.")

    def check_here(self) -> None:
        for keyword, files in (("data", self.files), ("test_data", self.test_files)):
            if files is not None:
                check_files(keyword, files)
        if self.features is not None and not os.path.isfile(self.features):
            raise FileNotFoundError(f"--features {self.features} names no file.")

    def fingerprint(self) -> dict[str, Any]:
        """What the training files are; {} of a preset."""
        return {} if self.files is None else fingerprint(self.files, held_out=self.test_files is None)
