"""Block shapes and warps of each kernel, by shape: the tuner's findings for this device, else heuristics.

No choice here changes the order in which a table's sums run.

Sizes: D dim, B bags.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from recis_core.pallas_kernels.findings import tuned

ELEMENTS = 1024  # of a program's tile: 8 a thread at 4 warps, two 16-byte float32 loads
MAX_DIM = 8192  # a wider row would spill registers even alone
UNROLLED_ELEMENTS = 2048  # tiles up to this size have registers for UNROLL rows in flight
UNROLL = 4
ALONE = 512  # a row so wide is updated alone: two of them in bfloat16 by Adagrad would spill
MAX_BAGS = 256  # at small dims what is kept of each bag, its bounds, weight and divisor, fills the registers first
MAX_KEYS = 256  # the same of keys


@dataclass(frozen=True)
class _Config:
    """Numbers that are powers of two, as Triton's shapes are."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1 or value & (value - 1):
                raise ValueError(f"{name} must be a power of two, as Triton's shapes are; got {value}.")


@dataclass(frozen=True)
class PoolConfig(_Config):
    """A program pools `bags` bags, `unroll` ids of each in flight; whatever these are, ids are summed one by one."""

    bags: int
    unroll: int
    num_warps: int


@dataclass(frozen=True)
class RowConfig(_Config):
    """A program works on `rows` rows at once."""

    rows: int
    num_warps: int


@dataclass(frozen=True)
class KeyConfig(_Config):
    """A program works on `keys` keys, or lanes, at once."""

    keys: int
    num_warps: int


@dataclass(frozen=True)
class FrameConfig(_Config):
    """A program works on one frame of ids, whose length is the wire format's."""

    num_warps: int


def width(dim: int) -> int:
    """Columns of a tile that holds a row: the next power of two, the rest masked."""
    if not 1 <= dim <= MAX_DIM:
        raise ValueError(f"dim must lie in 1..{MAX_DIM} for the Pallas kernels; got {dim}. Use RECIS_BACKEND=jax.")
    return 1 << (dim - 1).bit_length()


def pool_config(dim: int) -> PoolConfig:
    """For gather_pool and segment_sum."""
    bags = min(MAX_BAGS, max(1, ELEMENTS // width(dim)))
    unroll = UNROLL if bags * width(dim) <= UNROLLED_ELEMENTS else 1
    return tuned("pool", dim, PoolConfig(bags=bags, unroll=unroll, num_warps=warps(dim)))


def row_config(dim: int) -> RowConfig:
    """For row_dot and select_rows, and for optimizers that sum over a row's columns.

    Depends on dim alone, and must: the order of such a sum follows from the tile. So it is never tuned.
    """
    return RowConfig(rows=max(1, ELEMENTS // width(dim)), num_warps=warps(dim))


def update_config(dim: int) -> RowConfig:
    """For fused_update with an optimizer that works on each element alone."""
    rows = 1 if width(dim) >= ALONE else row_config(dim).rows
    return tuned("update", dim, RowConfig(rows=rows, num_warps=warps(dim)))


def code_config(dim: int) -> RowConfig:
    """For quantise and dequantise, which take a row's maximum, in any order."""
    return tuned("code", dim, row_config(dim))


def warps(dim: int) -> int:
    """Four, and eight once a single row fills more than two tiles."""
    return 8 if width(dim) > 2 * ELEMENTS else 4


def probe_config(ways: int) -> KeyConfig:
    """For probe: a key's ways lie on neighbouring threads, 16 bytes a thread."""
    return tuned("probe", ways, KeyConfig(keys=min(MAX_KEYS, 2 * ELEMENTS // ways), num_warps=4))


def lane_config(ways: int) -> KeyConfig:
    """For bulk_insert: each lane holds a line of ways for two buckets."""
    return tuned("lane", ways, KeyConfig(keys=min(MAX_KEYS, ELEMENTS // ways), num_warps=4))


def dedup_config() -> KeyConfig:
    """For dedup: two passes over the keys in their order."""
    return tuned("dedup", 0, KeyConfig(keys=ELEMENTS, num_warps=4))


def frame_config() -> FrameConfig:
    """For pack_ids and unpack_ids: one or two words of a frame a thread."""
    return tuned("frame", 0, FrameConfig(num_warps=4))
