"""Under torchrun, which starts ranks anew whatever they ended with: a mistake is told once."""

from __future__ import annotations

import os

import pytest

from recis_core.cli import main
from tests.cli.torchrun import torchrun

FULL = os.environ.get("RECIS_TEST_FULL") == "1"
PARSED = (["--preset", "tiny", "--dim", "0"], "recis train: --dim should be", "")
CHECKED = (["--preset", "tiny", "--resume", "/nowhere/at/all"], "/nowhere/at/all holds no saved state", "")
OPENED = (["--preset", "huge"], "preset must be one of tiny, small", "")


@pytest.mark.parametrize(("flags", "said", "more"), [PARSED, *([CHECKED, OPENED] if FULL else [])])
def test_a_mistake_in_flags_is_told_once(flags: list[str], said: str, more: str) -> None:
    done = torchrun(2, "train", *flags, restarts=2)
    assert done.returncode != 0
    assert done.stderr.count(said) == 1, done.stderr
    assert "SIGTERM ended it" not in done.stderr  # by torchrun, as one rank has failed
    assert more in done.stderr
    assert "Traceback" not in done.stderr.split("torch/distributed")[0]


@pytest.mark.full
def test_what_one_rank_refuses_is_told_by_it_alone(tmp_path, capsys) -> None:
    tiny = ["--preset", "tiny", "--rows", "500", "--steps", "1", "--backend", "numba", "--save", str(tmp_path)]
    assert main(["train", *tiny]) == 0
    done = torchrun(2, "train", *tiny, restarts=1)
    assert done.stderr.count("recis train") == 1, done.stderr
    assert "holds states of another run" in done.stderr
