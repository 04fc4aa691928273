"""A change of what users may import, or of how they call it, is seen in review: it changes surface.txt."""

from __future__ import annotations

import difflib
import enum
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

from tests.hygiene import surface

ROOT = Path(__file__).parents[2]
UNNAMED = object()


def test_the_public_surface_is_as_committed(tmp_path: Path) -> None:
    here = tmp_path / "surface.txt"
    subprocess.run([sys.executable, *surface.RENEW.split()[1:], str(here)], cwd=ROOT, check=True)
    committed, found = surface.FILE.read_text().splitlines(), here.read_text().splitlines()
    changes = [
        line for line in difflib.unified_diff(committed, found, lineterm="", n=0) if line[:3] not in ("---", "+++")
    ]
    told = "\n".join(changes)
    assert not changes, f"the public surface changed. If that is meant, run `{surface.RENEW}` and commit it:\n{told}"


def test_packages_say_what_is_public() -> None:
    listed = surface.FILE.read_text()
    assert "0x" not in listed
    assert "/" not in listed
    for name in surface.PACKAGES:
        assert f"{name}\n" in listed


class Colour(enum.Enum):
    RED = 1


class Pair(NamedTuple):
    left: int
    right: str = "r"


@dataclass(frozen=True)
class Made:
    size: int
    colour: Colour = Colour.RED
    names: list[str] = field(default_factory=list)
    counted: int = field(default=0, init=False)

    @property
    def half(self) -> float:
        return self.size / 2


class Opened(Protocol):
    name: str

    def open(self, path: str, *, how: Any = UNNAMED) -> int: ...


class Layer(torch.nn.Linear):
    LIMIT = 3

    @classmethod
    def of(cls, other: Layer) -> Layer:
        return other

    def _inner(self) -> None: ...


class Deeper(Layer):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def lines(value: Any, monkeypatch: Any, listed: set[int] | None = None) -> list[str]:
    monkeypatch.setattr(surface, "is_ours", lambda v: getattr(v, "__module__", "") == __name__)
    return list(surface.lines_of(value.__name__, value, listed or set()))


def test_each_kind_is_listed_with_what_is_ours(monkeypatch: Any) -> None:
    assert lines(Colour, monkeypatch) == ["class Colour(Enum)", "  RED: Colour"]
    assert lines(Pair, monkeypatch) == ["class Pair(tuple)", "  Pair(left: int, right: str = 'r')"]
    assert lines(Made, monkeypatch) == [
        "class Made",
        "  Made(size: int, colour: Colour = Colour.RED, names: list[str] = <factory>)",
        "  counted: int = 0",
        "  half: property -> float",
    ]
    assert lines(Opened, monkeypatch) == [
        "class Opened(Protocol)",
        "  name: str",
        "  open(self, path: str, *, how: Any = ...) -> int",
    ]


def test_bases_of_others_add_nothing_and_public_ones_stand_once(monkeypatch: Any) -> None:
    own = ["  LIMIT: int = 3", "  classmethod of(cls, other: Layer) -> Layer"]
    forward = "  forward(self, x: torch.Tensor) -> torch.Tensor"
    assert lines(Layer, monkeypatch) == ["class Layer(Linear)", *own]
    assert lines(Deeper, monkeypatch) == ["class Deeper(Layer)", own[0], forward, own[1]]
    assert lines(Deeper, monkeypatch, {id(Layer)}) == ["class Deeper(Layer)", forward]
