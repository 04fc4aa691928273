"""Every kernel × config × dtype that the heuristics choose lowers for CUDA on any machine, and holds no atomics."""

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from recis_core.pallas_kernels import gather_pool
from recis_core.pallas_kernels.catalog import KERNELS, fused_update, row_dot, segment_sum
from recis_core.pallas_kernels.catalog import gather_pool as pooling
from recis_core.pallas_kernels.kernel import Program, shape
from tests.kernels.chosen import PARTS, lowerings
from tests.kernels.lowering import check, check_no_float_atomics, lowered


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", KERNELS)
def test_every_program_lowers(name, part):
    """test_aot.py lowers and compiles more of them on our jax."""
    for program in lowerings(KERNELS[name], part):
        check(program)


@pytest.mark.parametrize("dim", [7, 64])
@pytest.mark.parametrize("form", fused_update.SLOTS)
def test_fused_update_aliases_weights_and_slots(dim, form):
    for dtype in ("float32", "bfloat16"):
        text = check(fused_update.program(dim, form, dtype))
        assert text.count("tf.aliasing_output") == 1 + fused_update.SLOTS[form]
        assert text.count("#stablehlo.output_operand_alias") == 1 + fused_update.SLOTS[form]


def test_kernels_are_the_same_where_a_user_turned_x64_on():
    programs = [kernel.programs()[0] for kernel in KERNELS.values()]
    programs += [segment_sum.program(7), row_dot.program(7), fused_update.program(7, "adam", "bfloat16")]
    with jax.enable_x64(True):
        for program in programs:
            assert "f64" not in check(program)


def test_one_byte_tables_around_the_reach_of_32_bit_offsets():
    for rows in ((1 << 31) // 64, 3 * (1 << 30) // 64, 80_000_000):
        check(pooling.program(64, "int8", rows=rows))
    with pytest.raises(ValueError, match=r"2\*\*31 to 2\*\*32 elements must have an even dim"):
        lowered(pooling.program(63, "int8", rows=3 * (1 << 30) // 64))


def test_a_dim_beyond_the_kernels_is_refused():
    with pytest.raises(ValueError, match=r"dim must lie in 1\.\.8192"):
        lowered(pooling.program(8193, "float32"))


def test_the_checks_for_atomics_can_fail():
    def kernel(x, out):
        plt.atomic_add(out, (jnp.arange(4),), x[...])

    def summed(x):
        params = plt.CompilerParams(num_warps=4)
        return pl.pallas_call(kernel, out_shape=jax.ShapeDtypeStruct((4,), jnp.float32), compiler_params=params)(x)

    four = shape("float32", 4)
    with pytest.raises(AssertionError, match="atomic operation"):
        check_no_float_atomics(lowered(Program("", summed, (four,))))
    scatter = lambda x, i: jax.ops.segment_sum(x, i, 5, indices_are_sorted=True)  # noqa: E731
    with pytest.raises(AssertionError, match="float scatter"):
        check_no_float_atomics(lowered(Program("", scatter, (four, shape("int32", 4)))))


def test_pooling_inside_a_larger_program_keeps_its_lowering():
    """The choice of Triton travels with the call, not with the jit around it."""
    f = lambda t, r, o: gather_pool(t * 2, r, o).sum()  # noqa: E731 - one expression, named by the test
    check(Program("", f, (shape("float32", 100, 8), shape("int32", 50), shape("int32", 11))))
