"""What `recis train` takes."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from recis_core.cli.column_flags import ColumnFlags, check_columns
from recis_core.cli.flags import flag, plain_errors


@plain_errors
@dataclass(frozen=True, kw_only=True)
class TrainConfig(ColumnFlags):
    """Train a model with unbounded 64-bit ids, show progress, and report AUC on held-out rows."""

    model: Literal["deepfm", "dlrm"] = "deepfm"
    """DeepFM, or DLRM with dot interaction."""
    preset: str | None = None
    """Synthetic click log with a known optimum: tiny, small, criteo-shape, drift, adversarial."""
    data: str | None = None
    """Path, folder or glob of Parquet, ORC, CSV or Arrow IPC files. Columns of floats are dense inputs x, taken as
    sign(x)·log(1 + |x|), 0 where empty; all others are ids: integers as they are, text hashed, dates and timestamps as
    integers; FIELD_weight weights the ids of FIELD."""
    label: str | None = None
    """With --data: the label column, 0 or 1."""
    backend: Literal["auto", "torch", "numba", "jax", "pallas"] | None = None
    """Default: RECIS_BACKEND, else auto."""
    dim: Annotated[int, Field(ge=1)] = 16
    """Columns of an embedding."""
    batch_size: Annotated[int, Field(ge=1)] = 2048
    """Rows of a batch; of all processes together, where torchrun starts several."""
    epochs: Annotated[int, Field(ge=1)] = 1
    """Passes over the training rows."""
    steps: Annotated[int | None, Field(ge=1)] = None
    """Stop after so many steps in all; default: the epochs decide."""
    rows: Annotated[int | None, Field(ge=2)] = None
    """With --preset: samples in all, training and test; default: the preset's."""
    optimizer: Literal["sgd", "adam", "adamw", "adamwtf", "adagrad", "rowwise_adagrad"] = "adam"
    """Of the tables; the dense side always uses Adam."""
    lr: Annotated[float | None, Field(gt=0, allow_inf_nan=False)] = None
    """Learning rate of both sides; default: that of the run that is resumed or begun from, else 0.001."""
    seed: int = 0
    """Of initial values, on both sides, and of a preset's samples."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of rows, the last ones, kept for the test."""
    test_data: str | None = None
    """With --data: glob of test files; then no row of --data is held out."""
    save: str | None = None
    """Directory for saved states, each whole and committed by a rename."""
    save_every: Annotated[int | None, Field(ge=1)] = None
    """With --save: steps between states; default: only at the end."""
    keep: Annotated[int | None, Field(ge=1)] = None
    """With --save: keep the newest so many states, by step, and remove older ones; default: all."""
    overwrite: bool = False
    """With --save: a directory that holds another run's states may be taken; they are removed once this run has
    saved one."""
    resume: str | None = None
    """A directory given to --save: go on from its latest state, of any number of processes."""
    resume_if_any: bool = False
    """With --resume: begin anew where the directory holds no state yet, so that one command serves the first
    start and every restart (torchrun --max-restarts)."""
    init_from: str | None = None
    """A directory given to --save: begin a new run, on these rows or others, with the tables, dense weights and
    optimizer of its latest state."""
    fresh_optimizer: bool = False
    """With --init-from: begin with tables and dense weights alone."""
    precision: str = "fp32"
    """Between processes: how rows and gradients travel. fp32, bf16, int8; forward=bf16,backward=int4+sr+ef;
    forward=int8,backward=topk(10%,int8)+ef; fp32@1000,int8 by step."""
    sharding: str = "row"
    """Between processes: where tables live. row, table:1 or replicated for all, or a .yaml file of
    `recis plan --out` by table name; FIELD:linear of DeepFM goes with FIELD unless it is named itself."""
    admit: str | None = None
    """Which new ids get a row: frequency(5), frequency(5,counter=bloom,bytes=1e8), probability(.1), readonly.
    Default: each."""
    evict: str | None = None
    """Which rows go: step(1000), not used for so many steps; ttl(3600), for so many seconds; lru(1e6), lfu(1e6),
    rows a table keeps; norm(1e-4), weights' norm below. Default: none."""
    evict_every: Annotated[int, Field(ge=1)] = 100
    """With --evict: steps between evictions."""
    cache_device_rows: str | None = None
    """Rows that each table keeps on the device, "100000" or a share of its rows, "1%", though 64 at least; the others lie
    in host memory and on disk. Default: all."""
    cache_device_bytes: str | None = None
    """The same in bytes of all tables together, 512MB or 40GiB."""
    cache_host_rows: str | None = None
    """Rows that each table keeps in host memory; the others lie on disk. Default: all."""
    cache_host_bytes: str | None = None
    """The same in bytes of all tables together."""
    cache_disk: str | None = None
    """Directory of the rows on disk: scratch, removed at the end. With --cache-host-rows or --cache-host-bytes."""
    cache_disk_index_bytes: str | None = None
    """Memory for the index of the rows on disk, 16 to 32 bytes a row, of all tables together, 8GiB; beyond it lies in a
    file there, and with 0 from the start. Default: 3 GiB for each table."""
    cache_disk_mapped_bytes: str | None = None
    """Of the files there, of all tables together, that stay mapped, 16GiB; rows of more are read by system calls, which
    take longer while the files are in memory. Default: 2 GiB for each table."""
    cache_policy: str | None = None
    """Which rows leave first: lfu, lfu(.97), lru, ttl(3600), lookahead, none. Default: lookahead with --prefetch,
    else lfu."""
    cache_precision: str | None = None
    """Weights off the device: same, bf16, fp16, fp8, int8 or int4; or two by comma, host memory and disk. Default:
    same."""
    prefetch: Annotated[int, Field(ge=0)] = 0
    """Batches that are read ahead, so that their rows are on the device when they come."""
    prefetch_threads: Annotated[int | None, Field(ge=1)] = None
    """Threads of training's loops beside the one that reads ahead: one less than cores is faster where cores are few. On
    Intel, torch's dense layers then have the same bits with MKL_CBWR=AVX2,STRICT alone. Default: all."""
    tensorboard: str | None = None
    """Directory for TensorBoard: loss, AUC, rows/s and what the cache did."""
    log_every: Annotated[int, Field(ge=1)] = 10
    """Steps between log lines."""
    json: bool = False
    """One JSON object a logged step, of what TensorBoard gets, and a last one; in place of the progress bar and all else."""

    def __post_init__(self) -> None:
        if (self.preset is None) == (self.data is None):
            raise ValueError("give --preset NAME or --data GLOB, one of the two.")
        if self.data is not None and self.label is None:
            raise ValueError("--data needs --label COLUMN.")
        for name in ("label", "test_data"):
            if self.preset is not None and getattr(self, name) is not None:
                raise ValueError(f"{flag(name)} goes with --data; --preset brings its own.")
        check_columns(self, self.data)
        if self.data is not None and self.rows is not None:
            raise ValueError("--rows goes with --preset.")
        for name, value in (
            ("save_every", self.save_every),
            ("keep", self.keep),
            ("overwrite", self.overwrite or None),
        ):
            if value is not None and self.save is None:
                raise ValueError(f"{flag(name)} needs --save DIR.")
        if self.resume_if_any and self.resume is None:
            raise ValueError("--resume-if-any needs --resume DIR.")
        if self.resume is not None and self.init_from is not None:
            raise ValueError("--resume goes on with a run, --init-from begins a new one; give one of the two.")
        if self.fresh_optimizer and self.init_from is None:
            raise ValueError("--fresh-optimizer needs --init-from DIR; a run that is resumed goes on with its own.")
        if self.prefetch_threads is not None and not self.prefetch:
            raise ValueError("--prefetch-threads needs --prefetch L, what reads ahead beside them.")
        if self.cache_device_rows is None and self.cache_device_bytes is None:
            asked = [f.name for f in fields(self) if f.name.startswith("cache_") and getattr(self, f.name) is not None]
            if asked:
                said, verb = ", ".join(map(flag, asked)), "needs" if len(asked) == 1 else "need"
                raise ValueError(f"{said} {verb} --cache-device-rows or --cache-device-bytes, what the device keeps.")

    def rows_in_all(self, epoch: int) -> int:
        """Rows that training sees until it ends, where an epoch has so many."""
        if self.steps is None:
            return epoch * self.epochs
        whole, more = divmod(self.steps, -(-epoch // self.batch_size))
        return min(epoch * self.epochs, epoch * whole + self.batch_size * more)
