"""Run by test_every_op.py: a child forked after its parent has used compiled loops of columns uses them, too."""

from __future__ import annotations

from tests.forking import in_child
from tests.ragged.implementations import plain
from tests.ragged.test_every_op import OPS


def mod() -> object:
    return plain(OPS["uint64_mod"]())


def main() -> None:
    expected = mod()

    def work() -> None:
        if mod() != expected:
            raise AssertionError("the child got something else")

    print(in_child(work))


if __name__ == "__main__":
    main()
