"""Every kernel × dim × dtype × rule lowers for CUDA on any machine, and holds no atomics."""

import contextlib
import re

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from pallas_kernels import gather_pool
from tests.kernels.bags import DIMS
from tests.kernels.programs import SLOTS, Program, dotting, f32, i32, of, pooling, summing, updating

FLOAT_SCATTER = re.compile(r"stablehlo\.scatter.*?tensor<f\d+>.*?stablehlo\.return", re.DOTALL)


def a_described_gpu():
    """jax 0.11 asks for the device a kernel is lowered for; 0.10 does not need it."""
    if not all(hasattr(jax.sharding, name) for name in ("AbstractDevice", "use_abstract_mesh")):
        return contextlib.nullcontext()
    device = jax.sharding.AbstractDevice(device_kind="NVIDIA H200", num_cores=132, platform="gpu")
    return jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), (), abstract_device=device))


def lowered(program: Program) -> str:
    with a_described_gpu():
        jitted = jax.jit(program.f, donate_argnums=program.donated)
        return jitted.trace(*program.shapes).lower(lowering_platforms=("cuda",)).as_text()


def check_no_float_atomics(text: str) -> None:
    """Triton's atomics stand by name in a kernel's bytecode; XLA makes them from scatters with a float sum."""
    if "atomic" in text:
        raise AssertionError("a kernel holds an atomic operation")
    if FLOAT_SCATTER.search(text):
        raise AssertionError("XLA would sum a float scatter by atomics")


def check(program: Program) -> str:
    text = lowered(program)
    assert "triton" in text
    check_no_float_atomics(text)
    return text


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int8"])
def test_gather_pool_lowers(dim, dtype):
    check(pooling(dim, dtype, "mean"))


@pytest.mark.parametrize("combiner", ["sum", "sqrtn", "none", "tile"])
def test_every_combiner_lowers(combiner):
    check(pooling(100, "float32", combiner))


@pytest.mark.parametrize("dim", DIMS)
def test_gradients_lower(dim):
    for program in (summing(dim), summing(dim, "bfloat16"), dotting(dim), dotting(dim, "int8")):
        check(program)


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("form", SLOTS)
def test_fused_update_lowers_and_aliases(dim, form):
    for dtype in ("float32", "bfloat16"):
        text = check(updating(dim, form, dtype))
        assert text.count("tf.aliasing_output") == 1 + SLOTS[form]
        assert text.count("#stablehlo.output_operand_alias") == 1 + SLOTS[form]


def test_kernels_are_the_same_where_a_user_turned_x64_on():
    with jax.enable_x64(True):
        for program in (pooling(7, "float32", "mean"), summing(7), dotting(7), updating(7, "adam", "bfloat16")):
            assert "f64" not in check(program)


def test_forty_million_rows_of_128():
    check(pooling(128, "float32", rows=40_000_000))
    check(dotting(128, "float32", rows=40_000_000))
    check(updating(128, "adam", rows=40_000_000))


def test_int8_tables_around_the_reach_of_32_bit_offsets():
    for rows in ((1 << 31) // 64, 3 * (1 << 30) // 64, 80_000_000):
        check(pooling(64, "int8", rows=rows))
    with pytest.raises(ValueError, match=r"2\*\*31 to 2\*\*32 elements must have an even dim"):
        lowered(pooling(63, "int8", rows=3 * (1 << 30) // 64))


def test_a_dim_beyond_the_kernels_is_refused():
    with pytest.raises(ValueError, match=r"dim must lie in 1\.\.8192"):
        lowered(pooling(8193, "float32"))


def test_the_checks_for_atomics_can_fail():
    def kernel(x, out):
        plt.atomic_add(out, (jnp.arange(4),), x[...])

    def summed(x):
        params = plt.CompilerParams(num_warps=4)
        return pl.pallas_call(kernel, out_shape=jax.ShapeDtypeStruct((4,), jnp.float32), compiler_params=params)(x)

    with pytest.raises(AssertionError, match="atomic operation"):
        check_no_float_atomics(lowered(Program(summed, (f32(4),))))
    scattered = Program(lambda x, i: jax.ops.segment_sum(x, i, 5, indices_are_sorted=True), (f32(4), i32(4)))
    with pytest.raises(AssertionError, match="float scatter"):
        check_no_float_atomics(lowered(scattered))


def test_pooling_inside_a_larger_program_keeps_its_lowering():
    """The choice of Triton travels with the call, not with the jit around it."""
    f = lambda t, r, o: gather_pool(t * 2, r, o).sum()  # noqa: E731 - one expression, named by the test
    check(Program(f, (of("float32", 100, 8), i32(50), i32(11))))
