"""The loop of a developer's day: every stage on every backend, and a few tests of every room, in two processes.

    make test-quick
    python -m tests.quick [ROOM…] [FLAG…]     those of tests/ROOM alone: python -m tests.quick nn optim -x --durations=5

tests/quick.txt names them. pytest says so where a test that it names is gone; take another of its room then.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILE = Path(__file__).with_suffix(".txt")
COMPILED = ("bridge", "contract", "kernels")  # rooms that wait for jax's compiler share a process


def listed() -> list[str]:
    """Node ids. Lines that begin with # say what follows is for."""
    return [line for line in FILE.read_text().splitlines() if line and not line.startswith("#")]


def room_of(test: str) -> str:
    """Its folder below tests; "tests" for files that lie there."""
    folder = test.split("::")[0].split("/")[1:-1]
    return folder[0] if folder else "tests"


def streams(tests: list[str]) -> list[list[str]]:
    """Two lists of about equal length in time, or one where the other would be empty."""
    compiled = [test for test in tests if room_of(test) in COMPILED]
    others = [test for test in tests if room_of(test) not in COMPILED]
    return [stream for stream in (others, compiled) if stream]


def main(argv: list[str]) -> int:
    rooms = [word for word in argv if not word.startswith("-")]
    tests = [test for test in listed() if not rooms or room_of(test) in rooms]
    if unknown := set(rooms) - {room_of(test) for test in listed()}:
        print(f"tests.quick: no room {', '.join(sorted(unknown))}; there are {', '.join(known())}.", file=sys.stderr)
        return 2
    return run(streams(tests), [word for word in argv if word.startswith("-")])


def known() -> list[str]:
    return sorted({room_of(test) for test in listed()})


def run(lists: list[list[str]], flags: list[str]) -> int:
    """The first prints as it goes, what the other printed follows. 0 where all passed."""
    first, *others = [[sys.executable, "-m", "pytest", *flags, *tests] for tests in lists]
    beside = [
        subprocess.Popen(o, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for o in others
    ]
    try:
        status = subprocess.run(first, cwd=ROOT, check=False).returncode
        printed = [process.communicate()[0] for process in beside]
    finally:
        for process in beside:
            process.kill()
    print("".join(printed), end="")
    return status or next((p.returncode for p in beside if p.returncode), 0)


if __name__ == "__main__":
    try:
        raise SystemExit(main(sys.argv[1:]))
    except KeyboardInterrupt:  # pytest has heard it too, and said where it was
        raise SystemExit(130) from None
