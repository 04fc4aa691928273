"""The one place that chooses a lowering: Triton, whatever the jax version's default.

Without compiler_params jax 0.10 would take Mosaic GPU, whose loads by an index vector do not exist.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

Arrays = Any  # a pytree of arrays; None stands for an operand that is not there


def launch(
    kernel: Callable[..., None],
    *operands: Arrays,
    programs: int,
    out_shape: Arrays,
    num_warps: int,
    aliases: dict[int, int] | None = None,
    interpret: bool = False,
) -> Arrays:
    """Run `programs` copies of the kernel; it gets whole-array references in the shape of operands and out_shape.

    aliases: flat operand number -> flat output number, for what is updated in place.
    """
    return pl.pallas_call(
        kernel,
        grid=(programs,),
        in_specs=_whole(operands),
        out_specs=_whole(out_shape),
        out_shape=out_shape,
        input_output_aliases=aliases or {},
        compiler_params=plt.CompilerParams(num_warps=num_warps),
        interpret=interpret,
    )(*operands)


def _whole(arrays: Arrays) -> Arrays:
    return jax.tree.map(lambda _: pl.BlockSpec(memory_space=pl.ANY), arrays)
