"""The JAX backend changes its table in place: XLA says so of the compiled programs, for a table of any size."""

import pytest

from recis_core.backends.jax_backend import inspect
from recis_core.backends.jax_backend.programs import Programs
from recis_core.backends.jax_backend.xla_loops import XLA_LOOPS
from recis_core.backends.spec import UpdateRule
from tests.step_programs import bytes_of, embed_shapes, plan, update_shapes

SMALL, LARGE = 10_000, 1_000_000


@pytest.fixture(scope="module")
def programs():
    return Programs(XLA_LOOPS)


def embed_memory(programs, rows):
    shapes = embed_shapes(rows)
    return inspect.memory(programs.embed, *shapes, donated=bytes_of(shapes[:3]), plan=plan(XLA_LOOPS))


def update_memory(programs, rows):
    shapes, rule = update_shapes(rows), UpdateRule("adam", ("m", "v"))
    return inspect.memory(programs.update, *shapes, donated=bytes_of(shapes[:2]), rule=rule)


@pytest.mark.parametrize("program", [embed_memory, update_memory])
def test_all_of_the_state_is_written_in_place_and_nothing_grows_with_it(programs, program):
    small, large = program(programs, SMALL), program(programs, LARGE)
    assert large.alias == large.state > 50 * small.state
    assert small.alias == small.state
    # Beside the table a step needs what its batch needs; a thousandth of a large table's bytes is index bookkeeping.
    assert large.temp <= small.temp + large.state // 100
    assert large.temp < large.state // 10
