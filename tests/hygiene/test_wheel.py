"""What is built and installed has one name, recis_core, and trains beside a user's own backends.py, bench/ and bridge/.

The wheel is made from the sdist, as pip makes one where no wheel fits.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas
import pytest

from tests.cli.clicks import clicks

ROOT = Path(__file__).parents[2]
SOURCES = ("backends", "bench", "bridge", "pallas_kernels", "recis_core", "pyproject.toml", "README.md", "LICENSE")
LINKED = ("backends", "bench", "bridge", "pallas_kernels")
REFUSES = "raise ImportError('this is the file of a user')\n"


def build(kind: str, source: Path, out: Path) -> Path:
    out.mkdir(exist_ok=True)
    code = f"import sys; from setuptools import build_meta; print(build_meta.build_{kind}(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(out)], cwd=source, capture_output=True, text=True, check=True
    )
    return out / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "results")
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder)
    return build("sdist", folder, folder / "dist")


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return build("wheel", next(folder.iterdir()), folder / "dist")


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the wheel, and of ours only what the wheel depends on."""
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}, scheme="venv"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment / "bin" / "python"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A user's folder that has files of the names that our checkout has."""
    (tmp_path / "backends.py").write_text(REFUSES)
    for name in ("bench", "bridge", "pallas_kernels"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(REFUSES)
    return tmp_path


def run(installed: Path, home: Path, *command: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([installed, *command], cwd=home, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_one_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [Path(name).parts for name in archive.namelist()]
    assert {parts[0].split("-")[0] for parts in names} == {"recis_core"}
    assert set(LINKED) <= {parts[1] for parts in names}
    for folder in LINKED:
        mine = {path.relative_to(ROOT).parts for path in (ROOT / folder).rglob("*.py")}
        assert mine == {parts[1:] for parts in names if parts[1] == folder and parts[-1].endswith(".py")}


def test_the_wheel_is_imported_from_where_it_lies(installed: Path, home: Path) -> None:
    code = "import recis_core.backends, recis_core.bridge, recis_core.pallas_kernels as k; print(k.__file__)"
    assert str(installed.parents[1]) in run(installed, home, "-c", code)


def test_it_trains_beside_files_of_the_names_of_our_folders(installed: Path, home: Path) -> None:
    synth = ("data", "synth", "--preset", "tiny", "--rows", "600", "--out", "clicks.parquet")
    run(installed, home, "-m", "recis_core.cli", *synth)
    train = (
        "train",
        "--model",
        "deepfm",
        "--data",
        "clicks.parquet",
        "--label",
        "label",
        "--json",
        "--backend",
        "torch",
    )
    lines = run(installed, home, "-m", "recis_core.cli", *train).splitlines()
    assert json.loads(lines[-1])["final"]


COLUMNS = {"ints": "user", "strings": "city", "lists": "tags"}
COMMANDS = (
    "train --data {kind}-0.parquet --label click --save run-{kind}",
    "eval --state run-{kind} --data {kind}-1.parquet",
    "predict --state run-{kind} --data {kind}-rows.parquet --out {kind}-scores.parquet --keep-columns {column}",
    "train --data {kind}-1.parquet --label click --init-from run-{kind}",
)
IN_ONE_PROCESS = """
import sys
from recis_core.cli import main
for command in sys.argv[1:]:
    if main([*command.split(), "--backend", "torch", "--json"]):
        sys.exit(command)
"""


def test_files_that_pandas_wrote_are_trained_on_evaluated_scored_and_begun_from(installed: Path, home: Path) -> None:
    """Ints, strings, lists with nulls; outside of the checkout."""
    for kind, column in COLUMNS.items():
        for seed in (0, 1):
            clicks(400, seed)[["click", column]].to_parquet(home / f"{kind}-{seed}.parquet")
        clicks(300, 2)[[column]].to_parquet(home / f"{kind}-rows.parquet")
    commands = [text.format(kind=kind, column=column) for kind, column in COLUMNS.items() for text in COMMANDS]
    lines = map(json.loads, run(installed, home, "-c", IN_ONE_PROCESS, *commands).splitlines())
    trained, evaluated, scored, begun = ([*each] for each in batched_by(len(COMMANDS), lines))
    assert [line["rows"] for line in evaluated] == [400] * 3
    assert [line["rows"] for line in scored] == [300] * 3
    assert all(after["table_rows"] >= before["table_rows"] > 0 for before, after in zip(trained, begun, strict=True))
    for kind, column in COLUMNS.items():
        scores = pandas.read_parquet(home / f"{kind}-scores.parquet")
        assert list(scores.columns) == [column, "score"]
        assert scores["score"].between(0, 1).all()


def batched_by(count: int, lines: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The lines of each of `count` commands that are run in turn; of a training its last one."""
    ends = [line for line in lines if "loss" not in line]
    return [ends[i::count] for i in range(count)]
