"""How one feature is embedded."""

from __future__ import annotations

import numbers
from dataclasses import dataclass, field
from typing import Any

import torch

from recis_core.backends.selection import NAMES
from recis_core.backends.spec import COMBINERS
from recis_core.options.admit_hook import AdmitHook
from recis_core.options.cache_config import CacheConfig
from recis_core.options.filter_hook import FilterHook
from recis_core.options.initializers import Initializer, UniformInitializer
from recis_core.options.precision import Precision
from recis_core.options.sharding import Sharding

STORAGE = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
OUTPUT = (torch.float32, torch.bfloat16, torch.float16)


def _one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}; got {value!r}.")


def _id(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not -(1 << 63) <= int(value) < 1 << 63:
        raise ValueError(f"padding_id must be an id, an integer of 64 bits, or None; got {value!r}.")
    return int(value)


@dataclass(frozen=True, kw_only=False)
class EmbeddingOption:
    """One feature's embedding. Features with one explicit `shared_name` share a table; their options must agree.

    Args:
      embedding_dim: columns of a row.
      block_size: rows to allocate at first; tables grow without bound.
      dtype: storage, float32 or bfloat16 (updates then round stochastically). Optimizer slots stay float32.
      device: the device of the table and of ids; None is the GPU if the backend uses one, else the CPU.
      trainable: False: rows are never updated; unknown ids are still inserted in training.
      pg: process group whose ranks share the table; None is the default group, if torch.distributed is initialized.
      shared_name: the table's name; None is the feature's name, so that features share a table only on request.
      initializer: initial values of rows; None is UniformInitializer(), ±1/sqrt(dim).
      use_weight: whether a ragged input's weights scale its rows.
      combiner: "sum", "mean", "sqrtn", "tile" or "none".
      combiner_kwargs: {"tile_len": k} for "tile".
      grad_reduce_by: "worker" sums gradients over occurrences (÷ world size); "id" takes their mean; "rank" takes the mean
        of ranks' sums, over the ranks that have the id.
      filter_hook: which rows `evict()` erases: a FilterHook, or a text such as "lru(1e6)".
      admit_hook: which unknown ids get a row in training: an AdmitHook, or a text such as "frequency(5)". None: all.
      fp16_enabled: give float16 outputs; same as output_dtype=torch.float16.
      seed: of initial values and rounding, 64 bits.
      backend: "torch", "numba", "jax" or "pallas" for this table; None is RECIS_BACKEND.
      output_dtype: of outputs; None is float32.
      sharding: with several ranks, which rank holds which rows: "row", "row+hot(1000)", "table:3", "column",
        "replicated", or a Sharding.
      precision: with several ranks, how rows and gradients are sent: "fp32", "bf16", "int8", …; see Precision.
      residual_bytes: with error feedback in `precision`, memory on each rank for the residuals of gradients; rows
        without room for a residual are sent exactly.
      cache: CacheConfig, for a table larger than its device: rows move between device, host memory and disk.
      storage: tables share storage if all attributes, this text among them, are equal. Give tables different texts if
        they have optimizers of different kinds.
      padding_id: an id that is ignored: it gets no row and no gradient, and sums and means leave it out; under "none" its
        vector is zero. None: no such id.
      unknown: the vector of an id that has no row and gets none: "zeros", or the id's "initial" value.

    Raises:
      ValueError: an argument is out of range. TypeError: an argument is unknown.

    As recis.nn.EmbeddingOption; `seed`, `backend`, `output_dtype`, `unknown`, `sharding`, `precision`,
    `residual_bytes`, `cache`, `storage`, `padding_id` are ours.
    """

    embedding_dim: int = 16
    block_size: int = 10_240
    dtype: torch.dtype = torch.float32
    device: str | torch.device | None = None
    trainable: bool = True
    pg: Any = None
    shared_name: str | None = None
    initializer: Initializer | None = None
    use_weight: bool = True
    combiner: str = "sum"
    combiner_kwargs: dict[str, int] = field(default_factory=dict)
    grad_reduce_by: str = "worker"
    filter_hook: FilterHook | str | None = None
    admit_hook: AdmitHook | str | None = None
    fp16_enabled: bool = False
    seed: int = 0
    backend: str | None = None
    output_dtype: torch.dtype | None = None
    unknown: str = "zeros"
    sharding: str | Sharding = Sharding()
    precision: str | Precision | None = None
    residual_bytes: int = 256 << 20
    cache: CacheConfig | None = None
    storage: str | None = None
    padding_id: int | None = None

    def __post_init__(self) -> None:
        if self.embedding_dim < 1:
            raise ValueError(f"embedding_dim must be at least 1; got {self.embedding_dim}.")
        if self.block_size < 1:
            raise ValueError(f"block_size must be at least 1; got {self.block_size}.")
        _one_of("dtype", self.dtype, tuple(STORAGE))
        if self.device is not None and torch.device(self.device).type == "meta":
            raise ValueError("device must be one with memory, for tables hold rows from the first id on; got 'meta'.")
        _one_of("combiner", self.combiner, COMBINERS)
        _one_of("grad_reduce_by", self.grad_reduce_by, ("worker", "id", "rank"))
        _one_of("unknown", self.unknown, ("zeros", "initial"))
        _one_of("backend", self.backend, (None, "auto", *NAMES))
        _one_of("output_dtype", self.output_dtype, (None, *OUTPUT))
        self._check_tile()
        if self.padding_id is not None:
            object.__setattr__(self, "padding_id", _id(self.padding_id))
        object.__setattr__(self, "admit_hook", AdmitHook.of(self.admit_hook))
        object.__setattr__(self, "filter_hook", FilterHook.of(self.filter_hook))
        object.__setattr__(self, "sharding", Sharding.of(self.sharding))
        object.__setattr__(self, "precision", Precision.of(self.precision))
        if self.initializer is not None:
            self.initializer.distribution(self.embedding_dim)

    def _check_tile(self) -> None:
        known = {"tile_len"} if self.combiner == "tile" else set()
        if set(self.combiner_kwargs) != known:
            raise ValueError(
                f"combiner {self.combiner!r} takes combiner_kwargs {sorted(known)}; got {sorted(self.combiner_kwargs)}."
            )
        if self.combiner == "tile" and self.combiner_kwargs["tile_len"] < 1:
            raise ValueError(f"tile_len must be at least 1; got {self.combiner_kwargs['tile_len']}.")

    @property
    def admits(self) -> AdmitHook | None:
        """The hook that chooses among new ids, or None."""
        hook = AdmitHook.of(self.admit_hook)
        return None if hook is None or hook.read_only else hook

    @property
    def filters(self) -> FilterHook | None:
        """The hook that chooses rows to evict, or None."""
        return FilterHook.of(self.filter_hook)

    @property
    def tile_len(self) -> int | None:
        return self.combiner_kwargs.get("tile_len")

    @property
    def output(self) -> torch.dtype:
        """Dtype of this feature's output."""
        return self.output_dtype or (torch.float16 if self.fp16_enabled else torch.float32)

    @property
    def init(self) -> Initializer:
        return self.initializer or UniformInitializer()
