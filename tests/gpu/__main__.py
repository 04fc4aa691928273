"""See tests/gpu/__init__.py."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

import tests.gpu
from tests.gpu.parts import PARTS, TOTAL, Part
from tests.gpu.runner import PASSED, run


def main(argv: list[str] | None = None) -> int:
    asked = parser().parse_args(argv)
    parts = [part for part in PARTS if not asked.parts or part.name in asked.parts]
    if why := no_gpu():
        print(f"tests.gpu: {why} Nothing ran. On a GPU it would run, in {TOTAL // 60} minutes at most:\n{plan(parts)}")
        return 2
    outcomes = run(parts, asked.out)
    failed = [outcome.name for outcome in outcomes if outcome.result != PASSED]
    print(f"{asked.out}: " + (f"FAILED: {', '.join(failed)}" if failed else f"all {len(outcomes)} parts passed"))
    return 1 if failed else 0


def parser() -> argparse.ArgumentParser:
    words = {"description": tests.gpu.__doc__, "formatter_class": argparse.RawDescriptionHelpFormatter}
    made = argparse.ArgumentParser(prog="python -m tests.gpu", **words)
    made.add_argument("parts", nargs="*", metavar="PART", choices=[*(p.name for p in PARTS), []], default=[])
    made.add_argument("--out", type=Path, default=Path("gpu-results"), help="folder of logs and rows")
    return made


def no_gpu() -> str | None:
    """Why nothing can run here; None where torch sees a GPU. Whether JAX sees it is the first part's to say."""
    if importlib.util.find_spec("torch") is None:
        return f"{sys.executable} has no torch."
    import torch

    return None if torch.cuda.is_available() else "torch sees no GPU here."


def plan(parts: list[Part]) -> str:
    return "\n".join(f"  {part.name:16} {part.budget:4} s  python {' '.join(part.command)}" for part in parts)


if __name__ == "__main__":
    raise SystemExit(main())
