"""Which of the catalog's programs a test compiles: a few hundred, of which every two numbers of a label meet in far fewer.

`pairs` is what a plain run lowers, `rest` what it leaves to the full one; as machine code CI compiles an eighth of `pairs`.
"""

from __future__ import annotations

import jax
import pytest

from recis_core.pallas_kernels.kernel import Kernel, Program
from tests.pairwise import pairwise

PARTS = ["pairs", pytest.param("rest", marks=pytest.mark.full)]
VERSIONS = 3  # of jax, one after another, that `make test-full` tests kernels on; `.ci/run` on the first two


def programs(kernel: Kernel, part: str) -> tuple[Program, ...]:
    """Compiled on one version of jax."""
    found = kernel.programs()
    return _part(found, pairwise(_factors(program) for program in found), part)


def lowerings(kernel: Kernel, part: str) -> tuple[Program, ...]:
    """On this version of jax: between three of them every two numbers meet, and each number meets each version."""
    found, here = kernel.programs(), int(jax.__version__.split(".")[1]) % VERSIONS
    # Turned by one from program to program, so that no version has most of the work.
    cases = [(i, (i + turn) % VERSIONS) for turn in range(VERSIONS) for i in range(len(found))]
    kept = pairwise((*_factors(found[i]), version) for i, version in cases)
    return _part(found, {i for i, version in (cases[number] for number in kept) if version == here}, part)


def _factors(program: Program) -> list[str]:
    return program.label.split()


def _part(found: tuple[Program, ...], kept: set[int], part: str) -> tuple[Program, ...]:
    return tuple(program for i, program in enumerate(found) if (i in kept) == (part == "pairs"))
