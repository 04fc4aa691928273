"""The same seed gives the same bits: twice, and on one thread as on two."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from recis_core.framework import TrainLoop
from recis_core.io import SyntheticClicks
from recis_core.models import DeepFM
from recis_core.nn import filter_out_sparse_param
from recis_core.optim import SparseAdam, join
from recis_core.serialize import tables_sha256

ROOT = Path(__file__).parents[2]


def digest(backend, threads=2, steps=6):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    if backend == "numba":
        import numba

        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    try:
        torch.manual_seed(0)
        clicks = SyntheticClicks("tiny", seed=3)
        model = DeepFM([f.name for f in clicks.preset.fields], 8, hidden=(16,), backend=backend)
        tables = filter_out_sparse_param(model)
        loop = TrainLoop(model, join(torch.optim.Adam(model.parameters(), 1e-2), SparseAdam(tables, 1e-2)))
        for batch in clicks.dataset(256, stop=256 * steps):
            loop.train_step(batch)
        return tables_sha256(tables)
    finally:
        torch.set_num_threads(before)
        if backend == "numba":
            numba.set_num_threads(min(before, numba.config.NUMBA_NUM_THREADS))


def test_two_runs_are_bit_identical(backend):
    steps = 2 if backend == "pallas" else 6
    assert digest(backend, steps=steps) == digest(backend, steps=steps)


def digest_of_process(backend, threads):
    """In a process of its own: on Intel, MKL splits the dense model's sums by thread unless told not to at its start."""
    intel = "GenuineIntel" in Path("/proc/cpuinfo").read_text()
    call = f"from tests.parity.test_determinism import digest; print(digest({backend!r}, threads={threads}))"
    environment = os.environ | ({"MKL_CBWR": "AVX2,STRICT"} if intel else {})
    found = subprocess.run(
        [sys.executable, "-c", call], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return found.stdout.split()[-1]


@pytest.mark.parametrize("kind", ["torch", "numba"])
def test_one_thread_and_two_agree(kind):
    assert digest_of_process(kind, threads=1) == digest_of_process(kind, threads=2)
