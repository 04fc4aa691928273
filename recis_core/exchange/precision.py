"""How precisely a table's rows and gradients travel: a codec each way, fixed, by step, or by measured error.

    int8                                   rows and gradients as int8
    forward=bf16,backward=int4+sr+ef       apart; rounded stochastically; what is lost is sent next time
    forward=int8,backward=topk(10%,int8)+ef   of the gradients only the tenth of rows with the largest norms
    fp32@1000,bf16@5000,int8               fp32 before step 1000, bf16 before step 5000, then int8
    auto(0.01)                             the smallest codec whose relative error stays within 1 %
    auto(0.01,int4|int8|bf16)+ef           of these
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from backends.spec import CODEC_IDS, RowCodec

BITS = {"sign": 1, "int4": 4, "int8": 8, "fp8": 8, "lossless": 12, "bf16": 16, "fp16": 16, "fp32": 32}
EXACT = ("fp32", "lossless")  # nothing to round at random
CANDIDATES = ("int4", "int8", "bf16", "fp32")
SMOOTHING = 0.9  # of a measured error, what the last one keeps
PATIENCE = 10  # observations within the bound before a smaller codec is tried
RETRY = 1000  # observations after which one that failed is tried again


class Sized:
    """Directions print as their text and parse from it."""


@dataclass(frozen=True)
class Codec:
    """What one exchange does to its rows.

    row: how a row becomes bytes. top: the share of rows sent, those of largest norm; None sends all.
    error_feedback: what was not sent is added to what is sent next.
    """

    row: RowCodec = RowCodec("fp32")
    top: float | None = None
    error_feedback: bool = False

    def __post_init__(self) -> None:
        if self.top is not None and not 0 < self.top <= 1:
            raise ValueError(f"top must be a share of rows in (0, 1]; got {self.top}.")

    def __str__(self) -> str:
        kind = self.row.kind if self.top is None else f"topk({self.top!r},{self.row.kind})"
        return kind + "+sr" * self.row.stochastic + "+ef" * self.error_feedback


@dataclass(frozen=True)
class Auto:
    """The smallest of `candidates`, smallest first, whose relative error ‖x − decoded‖/‖x‖ stays within `bound`."""

    bound: float
    candidates: tuple[Codec, ...]

    def __post_init__(self) -> None:
        if not 0 < self.bound < math.inf:
            raise ValueError(f"bound must be a positive number; got {self.bound}.")
        bits = [BITS[c.row.kind] for c in self.candidates]
        if not bits or len(set(self.candidates)) != len(bits) or bits != sorted(bits):
            raise ValueError(f"candidates must be distinct, the smallest first; got {self._named()}.")

    def _named(self) -> str:
        return "|".join(c.row.kind for c in self.candidates)

    def __str__(self) -> str:
        noisy, feedback = (any(flags) for flags in zip(*((c.row.stochastic, c.error_feedback) for c in self.candidates)))
        return f"auto({self.bound!r},{self._named()})" + "+sr" * noisy + "+ef" * feedback


@dataclass(frozen=True)
class Piece:
    """A choice that holds for steps below `until`; None: for all that follow."""

    choice: Codec | Auto
    until: int | None = None

    def __str__(self) -> str:
        return f"{self.choice}" if self.until is None else f"{self.choice}@{self.until}"


@dataclass(frozen=True)
class Direction:
    """One way of a table's exchange: pieces by step, the last without end."""

    pieces: tuple[Piece, ...] = (Piece(Codec()),)

    def __post_init__(self) -> None:
        ends = [p.until for p in self.pieces[:-1]]
        if not self.pieces or self.pieces[-1].until is not None or None in ends:
            raise ValueError(f"every piece but the last must end at a step (KIND@STEP); got {self}.")
        steps = [0, *(end for end in ends if end is not None)]
        if any(a >= b for a, b in zip(steps, steps[1:])):  # noqa: B905, RUF007
            raise ValueError(f"steps must ascend; got {self}.")

    @classmethod
    def parse(cls, text: str) -> Direction:
        """See the head of this file.

        Raises:
          ValueError: the text is none of these.
        """
        return cls(tuple(_piece(part) for part in _split(text)))

    def choice(self, step: int) -> Codec | Auto:
        """What holds at this step, counted from 0."""
        if step < 0:
            raise ValueError(f"step must be at least 0; got {step}.")
        return next(p.choice for p in self.pieces if p.until is None or step < p.until)

    def at(self, step: int, adaptive: Adaptive | None = None) -> Codec:
        """The codec of this step. Where it is chosen by error, `adaptive` says which; without it, the most exact one."""
        choice = self.choice(step)
        if isinstance(choice, Codec):
            return choice
        return choice.candidates[-1] if adaptive is None else adaptive.codec

    def adaptive(self) -> Adaptive | None:
        """A new chooser for the piece that chooses by error; None where none does.

        Raises:
          ValueError: more than one does.
        """
        autos = [p.choice for p in self.pieces if isinstance(p.choice, Auto)]
        if len(autos) > 1:
            raise ValueError(f"one piece may choose by error; got {self}.")
        return Adaptive(autos[0]) if autos else None

    @property
    def codecs(self) -> tuple[Codec, ...]:
        """All that may be used."""
        return tuple(c for p in self.pieces for c in (p.choice.candidates if isinstance(p.choice, Auto) else [p.choice]))

    @property
    def error_feedback(self) -> bool:
        """Whether a residual is kept at any step."""
        return any(c.error_feedback for c in self.codecs)

    def __str__(self) -> str:
        return ",".join(map(str, self.pieces))


class Adaptive:
    """Chooses among an Auto's candidates by the errors it observes of the one in use.

    It begins with the most exact, goes one down after PATIENCE observations whose smoothed error is within the
    bound, up as soon as it is not, and tries what failed again after RETRY observations. All arithmetic is
    Python's on what it was told: equal on all ranks that observe equal errors, so agree on errors first
    (Σ‖x − decoded‖² and Σ‖x‖² all-reduced).
    """

    def __init__(self, auto: Auto) -> None:
        self.auto = auto
        self._at, self._seen, self._error = len(auto.candidates) - 1, 0, 0.0
        self._wait = [0] * len(auto.candidates)

    @property
    def codec(self) -> Codec:
        """What to use now."""
        return self.auto.candidates[self._at]

    def observe(self, error: float) -> None:
        """The relative error that `codec` made; what is not finite counts as too large."""
        error = float(error)
        self._error = error if self._seen == 0 else SMOOTHING * self._error + (1 - SMOOTHING) * error
        self._seen += 1
        self._wait = [max(0, wait - 1) for wait in self._wait]
        if not self._error <= self.auto.bound:
            self._wait[self._at] = RETRY
            self._go(min(self._at + 1, len(self._wait) - 1))
        elif self._seen >= PATIENCE and self._at > 0 and self._wait[self._at - 1] == 0:
            self._go(self._at - 1)

    def _go(self, at: int) -> None:
        self._at, self._seen = at, 0

    def state_dict(self) -> dict[str, object]:
        """Plain numbers, for a checkpoint."""
        return {"at": self._at, "seen": self._seen, "error": self._error, "wait": list(self._wait)}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """What state_dict gave.

        Raises:
          ValueError: it is of other candidates.
        """
        wait = state["wait"]
        if not isinstance(wait, list) or len(wait) != len(self._wait):
            raise ValueError(f"the state is of other candidates than {self.auto}; got {state}.")
        self._at, self._seen = int(str(state["at"])), int(str(state["seen"]))
        self._error, self._wait = float(str(state["error"])), [int(w) for w in wait]


@dataclass(frozen=True)
class Precision:
    """What a table's exchange uses: `forward` for rows, `backward` for gradients. Sums are float32 always.

    Directions may be given as their text.

    Raises:
      ValueError: a text is wrong; topk for rows, of which every one is asked for; or a sum is not fp32.
    """

    forward: Direction | str = Direction()
    backward: Direction | str = Direction()
    accumulate: str = "fp32"

    def __post_init__(self) -> None:
        for name in ("forward", "backward"):
            given = getattr(self, name)
            if isinstance(given, str):
                object.__setattr__(self, name, Direction.parse(given))
        if any(c.top is not None for c in self.to_rows.codecs):
            raise ValueError(
                f"topk is for gradients: every row that was asked for must arrive; got {self.forward}. "
                "Write forward=KIND,backward=topk(SHARE,KIND)."
            )
        if self.accumulate != "fp32":
            raise ValueError(f"accumulate must be fp32; got {self.accumulate!r}.")

    @property
    def to_rows(self) -> Direction:
        return _direction(self.forward)

    @property
    def to_gradients(self) -> Direction:
        return _direction(self.backward)

    @classmethod
    def parse(cls, text: str) -> Precision:
        """One direction's text for both, or forward=…,backward=…; one left out is fp32.

        Raises:
          ValueError: the text says something else.
        """
        ways: dict[str, list[str]] = {}
        for part in _split(text):
            name, given = re.fullmatch(r"(?:(forward|backward)=)?(.*)", part, re.S).groups()  # type: ignore[union-attr]
            if name in ways or (name is None and not ways):
                if name is not None:
                    raise ValueError(f"{name} is given twice in {text!r}.")
                name = "both"
            ways.setdefault(name or list(ways)[-1], []).append(given)
        if "both" in ways and len(ways) > 1:
            raise ValueError(f"give one precision for both ways, or forward=…,backward=…; got {text!r}.")
        said = {name: Direction.parse(",".join(parts)) for name, parts in ways.items()}
        return cls(said["both"], said["both"]) if "both" in said else cls(**said)

    @classmethod
    def of(cls, given: Precision | str | None) -> Precision:
        """None is fp32 both ways; a text is parsed.

        Raises:
          TypeError: it is something else.
        """
        if given is None:
            return cls()
        if isinstance(given, str):
            return cls.parse(given)
        if not isinstance(given, cls):
            raise TypeError(f"precision must be a Precision, its text or None; got {type(given).__name__}.")
        return given

    def __str__(self) -> str:
        if self.forward == self.backward:
            return str(self.forward)
        return f"forward={self.forward},backward={self.backward}"


