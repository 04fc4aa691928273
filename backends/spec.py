"""Descriptions of tables, slots, rules, codecs and lookups: frozen and hashable, without torch or JAX arrays."""

from __future__ import annotations

from dataclasses import dataclass

from recis_core.backends import placement
from recis_core.backends.initial_values import Distribution

FLOAT32_MAX = float.fromhex("0x1.fffffep127")
FP16_MAX = 65504.0
BF16_MAX = float.fromhex("0x1.fep127")
CODEC_IDS = {
    "fp32": 0,
    "bf16": 1,
    "fp16": 2,
    "fp8": 3,
    "int8": 4,
    "int4": 5,
    "sign": 6,
    "lossless": 7,
}  # only appended to
COMBINERS = ("sum", "mean", "sqrtn", "tile", "none")
DTYPES = ("float32", "bfloat16")
RULES = {
    "sgd": ("lr", "weight_decay", "momentum"),
    "adam": ("alpha", "beta1", "one_minus_beta1", "beta2", "one_minus_beta2", "eps", "decay"),
    "adagrad": ("lr", "weight_decay", "eps"),
    "rowwise_adagrad": ("lr", "weight_decay", "eps"),
}


def _one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}; got {value!r}.")


@dataclass(frozen=True)
class TableSpec:
    """One physical table: the logical tables `uids` that share its index and rows.

    Args:
      dim: columns of a row, >= 1.
      uids: uint32 of each logical table, distinct. Position in it is the table's ordinal.
      dtype: storage of weights; slots are always float32. bfloat16 rounds stochastically in updates.
      seed: of initial values and rounding noise, 64 bits.
      distribution: how rows begin.
      device: where ids come from and outputs go, as torch names it.
      rows: rows to make room for at first. The table doubles past load .75.
      max_rows: None grows without bound; else the table never holds more rows than this.
      evict: with max_rows, new ids displace the lowest unpinned score instead of raising TableFull.
      first_column: even; where the table holds columns of a wider row from there on, so that they begin as those do.
        bfloat16 tables have it 0: their rounding noise counts columns from 0.
      score: "step" keeps the last step that touched a row (LRU), "count" its touches (LFU).
    """

    dim: int
    uids: tuple[int, ...]
    dtype: str = "float32"
    seed: int = 0
    distribution: Distribution = Distribution("constant", 0.0)
    device: str = "cpu"
    rows: int = 10_240
    max_rows: int | None = None
    evict: bool = False
    score: str = "step"
    first_column: int = 0

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ValueError(f"dim must be at least 1; got {self.dim}.")
        if not self.uids or len(set(self.uids)) != len(self.uids):
            raise ValueError(f"uids must be distinct and not empty; got {self.uids}.")
        if self.evict and self.max_rows is None:
            raise ValueError("evict=True needs max_rows; a table without bound never evicts.")
        if self.max_rows is not None and self.max_rows < 1:
            raise ValueError(f"max_rows must be at least 1; got {self.max_rows}.")
        if self.first_column < 0 or self.first_column % 2 or (self.first_column and self.dtype != "float32"):
            raise ValueError(f"first_column must be even and >= 0, and 0 with {self.dtype}; got {self.first_column}.")
        _one_of("dtype", self.dtype, DTYPES)
        _one_of("score", self.score, ("step", "count"))

    @property
    def buckets(self) -> int:
        """Buckets at creation; with max_rows also for ever."""
        return placement.initial_buckets(self.max_rows or self.rows)

    @property
    def grows(self) -> bool:
        return self.max_rows is None


@dataclass(frozen=True)
class SlotSpec:
    """One array of optimizer state beside the weights: `width` columns (dim or 1), float32, `initial` for new rows."""

    name: str
    width: int
    initial: float = 0.0


@dataclass(frozen=True)
class UpdateRule:
    """The arithmetic of one optimizer step on touched rows. `slots` name the arrays it reads and writes, in order.

    Its numbers are an argument of their own, `hyper` float32 [tables, len(RULES[kind])], one line per
    logical table, computed in Python floats:

    g is first multiplied by `factor` (loss unscaling, clipping), then
      sgd              g += weight_decay·w;  momentum slot: v = momentum·v + g, g = v;  w -= lr·g
      adam             w *= decay;  m = beta1·m + one_minus_beta1·g;  v = beta2·v + one_minus_beta2·g²;
                       w += alpha·m / (sqrt(v) + eps)          (alpha < 0 holds lr and bias corrections)
      adagrad          g += weight_decay·w;  s += g²;          w -= lr·g / (sqrt(s) + eps)
      rowwise_adagrad  g += weight_decay·w;  s += mean_d(g²);  w -= lr·g / (sqrt(s) + eps)

    All of it is float32, at its edges the same on every backend (`step_numbers` checks the numbers):
      a number or factor that is not finite, or a number from 2¹²⁷ on, is refused before anything changes; subnormal
      numbers count as 0. A factor beyond float32 is applied in two parts, for a gradient at the other end.
      A quotient by 0 is 0: with eps = 0 an element without a gradient so far rests, where torch.optim writes NaN.
      lr and alpha go without their power of two into the product with g, so that only the result under- or overflows.
      v = inf from |g| = sqrt(3.4e38 / one_minus_beta2) on, s = inf from |g| = 1.8e19: the element rests from then on, as in
      torch.optim. Squares of |g| below 1e-19 may count as 0, as may any subnormal number: XLA and Triton flush them.
      A weight that leaves float32 is ±inf, as in torch.
    """

    kind: str
    slots: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _one_of("kind", self.kind, tuple(RULES))


@dataclass(frozen=True)
class RowCodec:
    """How float32 rows become bytes. `Backend.encode` has each kind's arithmetic; D is the row's columns.

      kind      bytes of a row           what a column becomes
      fp32      4·D                      its float32, little-endian, as is the rest
      bf16      2·D                      bfloat16
      fp16      2·D                      float16
      fp8       4 + D                    float32 scale, then float8_e4m3fn of x / scale
      int8      4 + D                    the same, an integer of −127 … 127
      int4      4 + ⌈D/2⌉                the same, of −7 … 7; column 2j in the low half of byte j
      sign      4 + ⌈D/8⌉                float32 mean of |x|, then 1 where x is negative; column 8j + i in bit i of byte j
      lossless  1 + D + ⌈3·D/8⌉ + tail   bfloat16 with its exponent counted down from the row's largest

    stochastic: round up with the probability that makes the mean right, by noise that the caller's RowNoise names.

    Raises:
      ValueError: the kind is unknown, or has nothing to round.
    """

    kind: str
    stochastic: bool = False

    def __post_init__(self) -> None:
        _one_of("kind", self.kind, tuple(CODEC_IDS))
        if self.stochastic and self.kind in ("fp32", "lossless"):
            raise ValueError(
                f"{self.kind} rows are not rounded; got stochastic=True. Use bf16 to round stochastically."
            )

    @property
    def number(self) -> int:
        """The kind in packets: a number that never changes its meaning."""
        return CODEC_IDS[self.kind]

    def row_bytes(self, dim: int) -> int:
        """Bytes of one row of `dim` columns, without what a lossless row leaves to the tail."""
        if dim < 1:
            raise ValueError(f"dim must be at least 1; got {dim}.")
        return {
            "fp32": 4 * dim,
            "bf16": 2 * dim,
            "fp16": 2 * dim,
            "fp8": 4 + dim,
            "int8": 4 + dim,
            "int4": 4 + -(-dim // 2),
            "sign": 4 + -(-dim // 8),
            "lossless": 1 + dim + -(-3 * dim // 8),
        }[self.kind]


@dataclass(frozen=True)
class LookupMode:
    """How a lookup treats the table.

    insert: find or insert; otherwise find only, and unknown ids get row -1.
    unknown: what an unknown id reads as under find only, "zeros" or its "initial" value.
    touch: stamp and score what is found, and count it. False when a forward is recomputed.
    learn: under find only, `embed` keeps what a gradient of the ids it found needs; with insert it always does.
    """

    insert: bool = True
    unknown: str = "zeros"
    touch: bool = True
    learn: bool = False

    def __post_init__(self) -> None:
        _one_of("unknown", self.unknown, ("zeros", "initial"))

    @property
    def learns(self) -> bool:
        return self.insert or self.learn


@dataclass(frozen=True)
class Clock:
    """`step` is stamped on what a lookup touches; ways stamped at or after `pinned_from` are no victims."""

    step: int = 0
    pinned_from: int = 0


@dataclass
class Counters:
    """Counts since the table was created, of unique keys of each call, not of occurrences."""

    found: int = 0
    inserted: int = 0
    unknown: int = 0
    evicted: int = 0
    erased: int = 0
    stashed: int = 0
    rows: int = 0
    buckets: int = 0
