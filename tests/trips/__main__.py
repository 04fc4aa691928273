"""See tests/trips/__init__.py."""

from __future__ import annotations

import argparse

import tests.conftest  # noqa: F401 - sets what must be set before a backend is imported
from tests.trips import table
from tests.trips.cases import CASES, Step


def main(argv: list[str] | None = None) -> int:
    asked = parser().parse_args(argv)
    steps = {name: CASES[name]() for name in asked.cases or CASES}
    for name, step in steps.items() if asked.tree else ():
        print(tree(name, step))
    print(table.text(steps))
    if asked.write:
        table.write(steps)
    return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m tests.trips", description=__doc__)
    made.add_argument("cases", nargs="*", metavar="CASE", help=f"of {'; '.join(CASES)}", type=case, default=[])
    made.add_argument("--tree", action="store_true", help="every call, as an indented list")
    made.add_argument("--write", action="store_true", help=f"renew the table in docs/{table.PAGE.name}")
    return made


def case(word: str) -> str:
    """The case of that name."""
    if word not in CASES:
        raise argparse.ArgumentTypeError(f"no case {word!r}; there are {'; '.join(CASES)}")
    return word


def tree(name: str, step: Step) -> str:
    return "\n".join(line for phase, trip in step.items() for line in (f"# {name}: {phase}", *trip.tree(), ""))


if __name__ == "__main__":
    raise SystemExit(main())
