"""What the server of run_ranks imports: all that ranks use, and numba with its registries, as every first call would."""

# ruff: noqa: F401 - imported to be there
import os

os.environ["NUMBA_NUM_THREADS"] = "1"  # read once, when numba is imported; here is the ranks' server, not the tests

import torch._dynamo
import torch.distributed
from numba.core.registry import cpu_target

import recis_core.backends.numba_backend.backend
import recis_core.nn
import recis_core.optim
import tests.exchange.models
from tests.garbage import leave_imports_alone

cpu_target.typing_context.refresh()
cpu_target.target_context.refresh()
leave_imports_alone()  # a rank that collected garbage through all this would write to each of its pages
