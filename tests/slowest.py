"""The twenty slowest tests, from what pytest --durations printed.

    make test 2>&1 | tee test.log
    make slowest LOG=test.log        writes tests/slowest.txt

The time of a test is that of its setup, call and teardown. Several logs count together.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

FILE = Path(__file__).with_suffix(".txt")
MANY = 20
LINE = re.compile(r"^(\d+\.\d+)s +(setup|call|teardown) +(tests/\S.*?)\s*$")


def slowest(lines: Iterable[str]) -> list[tuple[str, float]]:
    """(test, seconds), the longest first. ValueError where the log names no test's duration."""
    seconds: dict[str, float] = defaultdict(float)
    for line in lines:
        if found := LINE.match(line):
            seconds[found[3]] += float(found[1])
    if not seconds:
        raise ValueError("the log has no durations; wanted the output of `make test`, or of pytest --durations=30.")
    return sorted(seconds.items(), key=lambda pair: (-pair[1], pair[0]))[:MANY]


def text(found: list[tuple[str, float]]) -> str:
    """One line a test: whole seconds, its name."""
    head = (
        f"# The {len(found)} slowest tests of a run, in seconds. Renew: make slowest LOG=FILE, see tests/slowest.py\n"
    )
    return head + "".join(f"{round(seconds):5d}  {name}\n" for name, seconds in found)


def main(logs: list[str]) -> int:
    try:
        lines = [line for log in logs for line in Path(log).read_text(errors="replace").splitlines()]
        FILE.write_text(text(slowest(lines)))
    except (OSError, ValueError) as error:
        print(f"tests.slowest: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
