"""The catalog is whole, and what it says holds: signatures, references, workloads, no torch."""

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from recis_core import pallas_kernels
from recis_core.pallas_kernels.catalog import KERNELS
from recis_core.pallas_kernels.kernel import Kernel, Sizes
from tests.kernels.reference import close, same_bits

FOLDER = Path(pallas_kernels.__file__).parent
ONLY_THE_KERNEL = {"interpret", "config"}
SMALL = Sizes(ids=300, rows=256, dim=16)


@pytest.mark.parametrize("name", KERNELS)
def test_reference_takes_what_the_kernel_takes(name):
    ours, plain = (inspect.signature(f).parameters for f in (KERNELS[name].call, KERNELS[name].reference))
    assert {k: v.default for k, v in ours.items() if k not in ONLY_THE_KERNEL} == {
        k: v.default for k, v in plain.items()
    }
    assert [k for k in ours if k not in ONLY_THE_KERNEL] == list(plain)
    assert "interpret" in ours


@pytest.mark.parametrize("name", KERNELS)
def test_workload_gives_the_reference_result(name):
    """What is benched and tuned is right, as the benchmark, too, checks first; and again it is the same bits."""
    work = KERNELS[name].workload(np.random.default_rng(0), SMALL)
    assert work.bytes > 0
    assert work.items > 0
    got = KERNELS[name].call(*work.arrays, **work.options, interpret=True)
    expected = KERNELS[name].reference(*work.arrays, **work.options)
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
        close(x, y, 1e-5)
    jax.tree.map(same_bits, KERNELS[name].call(*work.arrays, **work.options, interpret=True), got)


@pytest.mark.parametrize("name", KERNELS)
def test_machine_code_names_every_program(name):
    table = (FOLDER / "MACHINE_CODE.md").read_text()
    listed = set(re.findall(rf"^\| {name} \| (.*?) \|", table, re.MULTILINE))
    assert listed == {program.label for program in KERNELS[name].programs()}


def test_every_kernel_function_belongs_to_a_row_of_the_catalog():
    """Kernels live in the module of a row's call, or in one that it imports."""
    files = {
        path.stem for path in FOLDER.glob("*.py") if re.search(r"^def \w+_kernel\(", path.read_text(), re.MULTILINE)
    }
    reached = {KERNELS[name].call.__module__.rsplit(".", 1)[1] for name in KERNELS}
    for name in list(reached):
        reached |= set(
            re.findall(
                r"^from recis_core\.pallas_kernels\.(\w+) import", (FOLDER / f"{name}.py").read_text(), re.MULTILINE
            )
        )
    assert files
    assert files <= reached


def test_every_kernel_has_its_files_under_one_name():
    for kernel in KERNELS.values():
        module = kernel.call.__module__.rsplit(".", 1)[1]
        for folder in (FOLDER, FOLDER / "reference", FOLDER / "catalog"):
            assert (folder / f"{module}.py").exists()


def test_a_row_checks_itself():
    row = KERNELS["probe"]
    fields = {
        name: getattr(row, name) for name in ("name", "call", "reference", "moves", "programs", "workload", "configs")
    }
    with pytest.raises(ValueError, match="lowerings of triton, mosaic_gpu"):
        Kernel(**fields, dtypes=("uint32",), lowerings=("cuda",))


def run(*command):
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True, cwd=FOLDER.parents[1])


def test_nothing_here_imports_torch_or_the_backends():
    code = "import sys, recis_core.pallas_kernels.catalog; print(sorted(sys.modules))"
    loaded = set(re.findall(r"'([\w.]+)'", run("-c", code).stdout))
    assert "jax" in loaded
    ours = {name for name in loaded if name.startswith("recis_core.")}
    assert all(name.startswith("recis_core.pallas_kernels") for name in ours)
    assert not loaded & {"torch", "numba", "torch2jax"}


def test_the_command_lists_each_kernel():
    found = json.loads(run("-m", "recis_core.pallas_kernels", "--json", "row_dot", "probe").stdout)
    assert [kernel["name"] for kernel in found] == ["row_dot", "probe"]
    for kernel in found:
        assert kernel["lowerings"] == ["triton"]
        assert kernel["compiled"] in (True, "toolchain missing")
        assert kernel["reason"]
        assert set(kernel["configs"]) == {"16", "64", "128", "256"}
    assert "D·itemsize" in found[0]["bytes"]
    assert "probe  (triton)" in run("-m", "recis_core.pallas_kernels", "probe").stdout
