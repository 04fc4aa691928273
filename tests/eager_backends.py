"""The backends that compile nothing for long, where a case says little of the others; all of them in make test-full."""

import os

import pytest

FULL = os.environ.get("RECIS_TEST_FULL") == "1"
EAGER = ["torch", "numba", *(["jax", "pallas"] if FULL else [])]


@pytest.fixture(params=EAGER)
def backend(request):
    """In a test's module this takes the place of the fixture of all backends."""
    return request.param
