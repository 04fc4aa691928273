"""See pallas_kernels.pack_ids. Sizes: N ids, F frames."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
import numpy as np

from recis_core.pallas_kernels.catalog.inputs import N, keys_of
from recis_core.pallas_kernels.kernel import Kernel, Program, Sizes, Workload, shape
from recis_core.pallas_kernels.pack_ids import FRAME, WORDS, Packed, pack_ids, unpack_ids
from recis_core.pallas_kernels.reference.pack_ids import pack_ids as pack_reference
from recis_core.pallas_kernels.reference.pack_ids import unpack_ids as unpack_reference
from recis_core.pallas_kernels.tuning import frame_config


def programs() -> tuple[Program, ...]:
    words = lambda n: (shape("uint32", n), shape("uint32", n), shape("int32"))  # noqa: E731
    return tuple(Program(f"N={n}", pack_ids, words(n)) for n in (N, 1 << 20, 100))


def back_programs() -> tuple[Program, ...]:
    def program(n: int) -> Program:
        frames = -(-n // FRAME)
        base = shape("uint32", frames)
        packed = Packed(
            shape("uint32", frames * WORDS), shape("int32", frames), base, base, shape("int32"), shape("int32")
        )
        return Program(f"N={n}", partial(unpack_ids, size=n), (packed,))

    return tuple(program(n) for n in (N, 1 << 20, 100))


def sorted_ids(rng: np.random.Generator, sizes: Sizes) -> tuple[jnp.ndarray, jnp.ndarray, jnp.ndarray]:
    """Ids in order, as a partition sends them."""
    keys = keys_of(rng.permutation(max(sizes.rows, sizes.ids))[: sizes.ids])
    return keys.hi, keys.lo, jnp.int32(sizes.ids)


def workload(rng: np.random.Generator, sizes: Sizes) -> Workload:
    ids = sorted_ids(rng, sizes)
    length = int(pack_reference(*ids).length)
    return Workload(ids, 8 * sizes.ids + 4 * length + sizes.ids // FRAME * 12, items=sizes.ids)


def back_workload(rng: np.random.Generator, sizes: Sizes) -> Workload:
    packed = pack_reference(*sorted_ids(rng, sizes))
    moved = 8 * sizes.ids + 4 * int(packed.length) + sizes.ids // FRAME * 12
    return Workload((packed,), moved, {"size": sizes.ids}, items=sizes.ids)


KERNELS = (
    Kernel(
        name="pack_ids",
        call=pack_ids,
        reference=pack_reference,
        dtypes=("uint32",),
        moves="8·N + 4·Σ 4·width + 12·F",
        programs=programs,
        workload=workload,
        configs=lambda dim: frame_config(),
    ),
    Kernel(
        name="unpack_ids",
        call=unpack_ids,
        reference=unpack_reference,
        dtypes=("uint32",),
        moves="4·Σ 4·width + 12·F + 8·N",
        programs=back_programs,
        workload=back_workload,
        configs=lambda dim: frame_config(),
    ),
)
