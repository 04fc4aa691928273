"""What importing costs and drags in: each in a fresh interpreter."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(code, **env):
    import os

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, **env}
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


TRAIN = """
import json, sys, torch
from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseAdam
from recis_core.features import Combine, Feature, FeatureEngine, SelectField, Vocabulary
import recis_core.io, recis_core.models, recis_core.framework, recis_core.serialize
engine = EmbeddingEngine({"f": EmbeddingOption(4)})
optimizer = SparseAdam(engine.sparse_parameters())
features = FeatureEngine([Feature("f").add_op(SelectField("x")).add_op(Vocabulary([5])).add_op(Combine(9))])
engine(features({"x": torch.tensor([1])}, False))["f"].sum().backward()
optimizer.step()
loaded = {name.split(".")[0] for name in sys.modules} | {name for name in sys.modules if name == "recis_core.bridge"}
print(json.dumps(sorted(loaded & {"jax", "jaxlib", "numba", "recis_core.bridge"})))
"""


@pytest.mark.parametrize(("backend", "loaded"), [("torch", []), ("numba", ["numba"])])
def test_torch_and_numba_backends_never_load_jax(backend, loaded):
    assert run(TRAIN, RECIS_BACKEND=backend) == loaded


def test_importing_drags_in_neither_compilers_nor_readers():
    """Beyond torch: numpy, msgpack's kin and our own files, some hundredths of a second."""
    code = (
        "import torch, sys, json; before = set(sys.modules); import recis_core, recis_core.nn, recis_core.optim; "
        "import recis_core.metrics; "
        "new = set(sys.modules) - before; "
        "print(json.dumps(sorted({m.split('.')[0] for m in new} | {m for m in new if m == 'recis_core.bridge'})))"
    )
    heavy = {"jax", "numba", "llvmlite", "pyarrow", "sympy", "scipy", "pydantic", "tyro", "rich", "torchmetrics"}
    assert not (heavy | {"recis_core.bridge"}) & set(run(code))


def test_the_bridge_has_never_heard_of_embeddings():
    code = (
        "import recis_core.bridge, json, sys; print(json.dumps([m for m in sys.modules if m.startswith('recis_core')]))"
    )
    assert [name for name in run(code) if not name.startswith("recis_core.bridge")] == ["recis_core"]


def test_pallas_kernels_know_no_torch():
    assert run("import recis_core.pallas_kernels, json, sys; print(json.dumps('torch' in sys.modules))") is False


def test_an_unknown_backend_is_named():
    code = (
        "import json; from recis_core import backends\n"
        "try: backends.select()\n"
        "except ValueError as e: print(json.dumps(str(e)))"
    )
    assert run(code, RECIS_BACKEND="cuda") == "RECIS_BACKEND must be auto, torch, numba, jax, pallas; got 'cuda'."


def test_pallas_without_a_gpu_says_why():
    code = (
        "import json; from recis_core import backends\n"
        "try: backends.select(); print(json.dumps('ran'))\n"
        "except backends.errors.BackendUnavailable as e: print(json.dumps(str(e)))"
    )
    got = run(code, RECIS_BACKEND="pallas", RECIS_PALLAS_INTERPRET="0")
    assert got == "ran" or "needs a CUDA device that JAX can see; jax.devices() gives [CpuDevice(id=0)]" in got


def test_no_path_of_a_machine_and_no_registry_host_is_committed():
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    home = str(Path.home())
    for name in files:
        if (ROOT / name).is_symlink():  # to a folder, whose files are listed
            continue
        text = (ROOT / name).read_bytes()
        for needle in (str(ROOT), home + "/", "files.pythonhosted" + ".org"):
            assert needle.encode() not in text, f"{name} names {needle}"


def test_our_files_name_each_other_by_recis_core():
    """`import backends` works in a checkout, as another copy of it."""
    bare = re.compile(r"^\s*(from|import) (backends|bench|bridge|pallas_kernels)\b", re.MULTILINE)
    folders = ("backends", "bench", "bridge", "pallas_kernels", "recis_core", "tests")
    files = [path for name in folders for path in (ROOT / name).rglob("*.py")]
    assert len(files) > 500
    assert [str(path) for path in files if bare.search(path.read_text())] == []
