"""Runs RecIS's own tests, or its example models, through recis_core.compat.recis.

    git clone https://github.com/alibaba/RecIS
    python -m tests.compat.run_recis_tests RecIS                    its tests, function by function
    python -m tests.compat.run_recis_tests RecIS --examples         its example models on one process and on two

Nothing of RecIS is in this repository. Files of the checkout are copied aside, and two things change in the copies: the import
root, and CUDA devices, which become the CPU. Each file runs in a process of its own, for RecIS wants each table's name once a
process. The status is 0 if all pass but those that docs/compat-recis.md lists as out of scope.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests.compat.recis_examples import run_examples
from tests.compat.recis_text import changed

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 1200  # for a file
OUT_OF_SCOPE = {  # parts that tables here do not have; docs/compat-recis.md says why
    "ops/hashtable_ops_test.py": {
        "test_generate_ids", "test_generate_ids_with_free_ids", "test_free_ids", "test_mask_index",
    },
    "ops/ids_partition_test.py": {"test_ids_encode_cpu", "test_ids_encode_cuda"},
    "ops/block_ops_test.py": {"test_block_gather", "test_block_insert", "test_block_apply_adamw"},
}  # fmt: skip
CONFTEST = """
import os
import recis_core.compat.recis
for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}.items():
    os.environ.setdefault(name, value)
"""
EXPECTTEST = (
    "import unittest\nTestCase = unittest.TestCase\n"  # which torch's test helpers import; no test of RecIS uses it
)


@dataclass(frozen=True)
class Outcome:
    """Of one test function in all its cases. what: "passed", "failed", or "out of scope". why: the first error."""

    file: str
    function: str
    what: str
    why: str = ""


def test_files(checkout: Path) -> list[Path]:
    """Raises FileNotFoundError: this is no checkout of RecIS."""
    found = [file for file in sorted((checkout / "tests").rglob("*.py")) if "def test" in file.read_text()]
    if not found:
        raise FileNotFoundError(f"{checkout} has no tests/**/*.py with test functions; wanted a checkout of RecIS.")
    return found


def outcomes(checkout: Path, aside: Path, only: str) -> Iterator[Outcome]:
    """Of every function of the files whose name holds `only`."""
    (aside / "conftest.py").write_text(CONFTEST)
    (aside / "expecttest.py").write_text(EXPECTTEST)
    for file in test_files(checkout):
        name = str(file.relative_to(checkout / "tests"))
        if only in name:
            copy = aside / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(changed(file.read_text()))
            yield from _of_file(name, copy, aside)


def _of_file(name: str, copy: Path, aside: Path) -> Iterator[Outcome]:
    report = aside / "report.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(aside)]
    command += ["--import-mode=importlib", f"--junitxml={report}", str(copy)]
    ran = _run(command, aside)
    found: dict[str, str] = {}
    for case in ElementTree.parse(report).iter("testcase") if report.exists() else ():
        function = _name_of(case, copy)
        wrong = [fault for kind in ("failure", "error", "skipped") for fault in case.iter(kind)]
        found[function] = found.get(function) or (str(wrong[0].get("message"))[:300] if wrong else "")
    if not found:
        yield Outcome(name, "(the file)", "failed", ran.stdout[-600:] + ran.stderr[-600:])
    for function, why in found.items():
        scope = OUT_OF_SCOPE.get(name, set())
        failed = "out of scope" if function.split(".")[-1] in scope else "failed"
        yield Outcome(name, function, failed if why else "passed", why)


def _name_of(case: ElementTree.Element, file: Path) -> str:
    """Class.function, or function; a file without tests has its own name."""
    inside, name = str(case.get("classname")).split(".")[-1], str(case.get("name")).split("[")[0]
    return name if inside in ("", file.stem) else f"{inside}.{name}"


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)])}
    try:
        return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"it took more than {SECONDS} seconds")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.compat.run_recis_tests", description=__doc__)
    parser.add_argument("checkout", type=Path, help="of github.com/alibaba/RecIS at v1.0.0")
    parser.add_argument("--examples", action="store_true", help="train its example models instead")
    parser.add_argument("--only", default="", help="files, or examples, whose names hold this")
    asked = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as aside:
        if asked.examples:
            return run_examples(asked.checkout, Path(aside), asked.only, ROOT)
        counts = {"passed": 0, "out of scope": 0, "failed": 0}
        for each in outcomes(asked.checkout, Path(aside), asked.only):
            counts[each.what] += 1
            print(
                f"{each.what:12} {each.file}::{each.function} {each.why.splitlines()[0] if each.why else ''}",
                flush=True,
            )
    print(", ".join(f"{count} {what}" for what, count in counts.items()), f"of {sum(counts.values())} functions")
    return int(counts["failed"] > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
