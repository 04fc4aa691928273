"""Every stage of a training step on the Pallas backend runs by kernels, none sums floats by atomics: lowered, on any machine.

Needs torch, for backends does.
"""

import re

import pytest

pytest.importorskip("torch", reason="backends/ needs torch")

from tests.kernels.lowering import check_no_float_atomics, lowered
from tests.kernels.step_stages import STAGES


@pytest.mark.parametrize("name", STAGES)
def test_stage_holds_its_kernels(name):
    program, kernels = STAGES[name]
    text = lowered(program)
    assert set(re.findall(r'name = "(\w+_kernel)"', text)) == kernels
    check_no_float_atomics(text)
