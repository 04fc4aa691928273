"""Machine code for sm_90a, made without a GPU, of every program of the catalog: in place, no spills, no atomics,
and as MACHINE_CODE.md says.

Skips aloud without the toolchain; `make test-machine-code` installs it.
"""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import jax
import pytest

from recis_core.pallas_kernels import aot, machine_code
from recis_core.pallas_kernels.catalog import KERNELS, fused_update, gather_pool, row_dot
from recis_core.pallas_kernels.kernel import Program
from recis_core.pallas_kernels.machine_code import Entry, entries
from tests.kernels.chosen import PARTS, programs
from tests.kernels.lowering import check_ptx

COPY = re.compile(r"= (\w+)\[([\d,]*)\]\S* copy\(")
SCRATCH_BYTES = 64 * 1024
TABLE = Path(machine_code.__file__).with_name("MACHINE_CODE.md").read_text()
EIGHTHS = [0, *(pytest.param(i, marks=pytest.mark.full) for i in range(1, 8))]  # of each kernel's programs


pytestmark = pytest.mark.usefixtures("toolchain")


def compiled(program: Program) -> aot.Program:
    made = aot.compile_for_h200(program.f, *program.shapes, donate_argnums=program.donated)
    check_ptx(made.ptx)
    check_copies(made.text, program)
    assert made.alias_bytes == program.donated_bytes, program.label
    check_entries(entries(made), program.label)
    return made


def check_copies(text: str, program: Program) -> None:
    """Nothing that is to be updated in place is copied; of what is not, nothing at all but single numbers."""
    kept = [program.shapes[i] for i in program.donated] or program.shapes
    shapes = {",".join(map(str, leaf.shape)) for leaf in jax.tree.leaves(kept) if leaf.size > 1}
    for dtype, size in COPY.findall(text):
        if size in shapes:
            raise AssertionError(f"{program.label} copies {dtype}[{size}]")


def check_entries(found: Sequence[Entry], label: str) -> None:
    if not found:
        raise AssertionError(f"{label}: no kernel of ours in the program")
    for entry in found:
        if entry.spill_bytes:
            raise AssertionError(f"{label}: {entry.name} spills {entry.spill_bytes} bytes")


@pytest.mark.parametrize("eighth", EIGHTHS)
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", KERNELS)
def test_every_program_compiles(name, part, eighth):
    for program in programs(KERNELS[name], part)[eighth :: len(EIGHTHS)]:
        made = compiled(program)
        if machine_code.versions() in TABLE:  # other versions make other code
            assert set(machine_code.rows(KERNELS[name], program, made)) <= set(TABLE.splitlines()), program.label


@pytest.mark.parametrize("program", [gather_pool.program(64, "int8"), fused_update.program(64, "adam")])
def test_nothing_beside_arguments_and_results(program):
    assert compiled(program).temp_bytes <= SCRATCH_BYTES


@pytest.mark.parametrize(
    "program",
    [
        partial(fused_update.program, 128, "adam"),
        partial(gather_pool.program, 128, "float32"),
        partial(row_dot.program, 128),
    ],
)
def test_rows_of_512_bytes_are_found_by_64_bit_offsets_where_32_would_overflow(program):
    wide = re.compile(r"mul\.wide\.[su]32\s+%rd\d+, %r\w+, (?:128|512);")  # elements, or bytes
    assert wide.search(compiled(program(rows=40_000_000)).ptx)
    assert not wide.search(compiled(program(rows=1 << 20)).ptx)


@pytest.mark.parametrize("module", [gather_pool, row_dot])
def test_three_gib_of_int8_are_read_as_pairs_and_not_copied(module):
    made = compiled(module.program(64, "int8", rows=3 * (1 << 30) // 64))
    assert made.temp_bytes < 1 << 20
    assert "ld.global.b16" in made.ptx or "ld.global.v" in made.ptx


def test_rows_are_loaded_16_bytes_a_thread():
    assert "ld.global.v4.b32" in compiled(gather_pool.program(64, "float32")).ptx


def test_the_checks_can_fail():
    with pytest.raises(AssertionError, match="on floats"):
        check_ptx("atom.global.gpu.relaxed.add.f32 %f1, [%rd1], %f2;")
    check_ptx("atom.global.gpu.relaxed.add.u32 %r1, [%rd1], %r2;")
    table = jax.ShapeDtypeStruct((100, 8), "float32")
    with pytest.raises(AssertionError, match=r"copies f32\[100,8\]"):
        check_copies("%c = f32[100,8]{1,0} copy(%p)", Program("table", lambda x: x, (table,), donated=(0,)))
    with pytest.raises(AssertionError, match="spills 8 bytes"):
        check_entries([Entry("pool_kernel", 255, 8, 0, 128)], "")
    with pytest.raises(AssertionError, match="no kernel of ours"):
        check_entries([], "")
