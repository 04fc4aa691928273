"""The Pallas backend's programs as machine code for sm_90a: in place, no table-sized copy, no float atomics, ours or XLA's.

Needs torch, for backends does, and the CUDA toolchain; skips aloud without either.
"""

import re

import pytest

pytest.importorskip("torch", reason="backends/ needs torch")

from recis_core.pallas_kernels import aot
from recis_core.pallas_kernels.machine_code import entries
from tests.kernels.lowering import check_ptx
from tests.kernels.step_stages import STAGES
from tests.kernels.test_aot import check_entries
from tests.step_programs import N

SMALL = 64 << 20  # what a step may need beside the table; the table's weights alone are 200 MB

pytestmark = pytest.mark.usefixtures("toolchain")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.full if n % 2 else ()) for n, name in enumerate(STAGES)]
)
def test_stage_compiles(name):
    program, kernels = STAGES[name]
    made = aot.compile_for_h200(program.f, *program.shapes, donate_argnums=program.donated)
    assert made.alias_bytes == program.donated_bytes
    assert made.temp_bytes < SMALL
    for rows in re.findall(r"= \w+\[(\d+),64\]\S* copy\(", made.text):
        assert int(rows) <= 2 * N
    check_ptx(made.ptx)
    if kernels:
        check_entries(entries(made), name)
