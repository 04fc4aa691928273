"""What the server of run_ranks imports beyond torch: numba with all its registries, as every first call would."""

import os

os.environ["NUMBA_NUM_THREADS"] = "1"  # read once, when numba is imported; here is the ranks' server, not the tests

from numba.core.registry import cpu_target

import backends.numba_backend.backend  # noqa: F401

cpu_target.typing_context.refresh()
cpu_target.target_context.refresh()
