"""The flags that say what a run is trained and tested on."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from recis_core.cli.column_flags import ColumnFlags, check_columns
from recis_core.cli.data_files import fingerprint
from recis_core.cli.flags import flag, named, plain_errors
from recis_core.cli.outset import check_files
from recis_core.io.synthetic import PRESETS


@plain_errors
@dataclass(frozen=True, kw_only=True)
class DataFlags(ColumnFlags):
    """What is trained on: a synthetic preset, or files and their columns."""

    preset: str | None = None
    """Synthetic click log with a known optimum: tiny, small, criteo-shape, drift, adversarial."""
    rows: Annotated[int | None, Field(ge=2)] = None
    """With --preset: samples in all, training and test; default: the preset's."""
    files: Annotated[str | None, named("data")] = None
    """Path, folder or glob of Parquet, ORC, CSV or Arrow IPC files. Columns of floats are dense inputs x, taken as
    sign(x)·log(1 + |x|), 0 where empty; all others are ids: integers as they are, text hashed, dates and timestamps as
    integers; FIELD_weight weights the ids of FIELD."""
    label: str | None = None
    """With --data: the label column, 0 or 1."""
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
        check_columns(self, self.files)
        if self.files is not None and self.rows is not None:
            raise ValueError("--rows goes with --preset.")

    def check_here(self) -> None:
        for keyword, files in (("data", self.files), ("test_data", self.test_files)):
            if files is not None:
                check_files(keyword, files)

    def fingerprint(self) -> dict[str, Any]:
        """What the training files are; {} of a preset."""
        return {} if self.files is None else fingerprint(self.files, held_out=self.test_files is None)
