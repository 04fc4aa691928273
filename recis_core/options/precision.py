"""How precisely ranks exchange a table's rows and gradients: a codec for each direction, fixed, by step, or by error.

int8                                   rows and gradients as int8
forward=bf16,backward=int4+sr+ef       rows bf16; gradients int4, rounded stochastically; losses are added to the next ones
forward=int8,backward=topk(10%,int8)+ef   of the gradients only the tenth of rows with the largest norms
fp32@1000,bf16@5000,int8               fp32 before step 1000, bf16 before step 5000, then int8
auto(0.01)                             the smallest codec whose relative error stays within 1 %
auto(0.01,int4|int8|bf16)+ef           the smallest of these
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import pairwise

from recis_core.backends.spec import CODEC_IDS, RowCodec

BITS = {"sign": 1, "int4": 4, "int8": 8, "fp8": 8, "lossless": 12, "bf16": 16, "fp16": 16, "fp32": 32}
EXACT = ("fp32", "lossless")  # codecs without rounding
CANDIDATES = ("int4", "int8", "bf16", "fp32")
SMOOTHING = 0.9  # weight of the former errors in the smoothed error
PATIENCE = 10  # observations within the bound before a smaller codec is tried
RETRY = 1000  # observations after which a codec that failed is tried again


@dataclass(frozen=True)
class Codec:
    """How one exchange encodes its rows.

    row: how a row becomes bytes. top: the share of rows sent, those of largest norm; None sends all.
    error_feedback: the error of a row is added to what is sent of it next.
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
        if len({(c.error_feedback, c.top) for c in self.candidates}) > 1:
            raise ValueError(
                f"candidates must differ in their kind alone; got {' | '.join(map(str, self.candidates))}."
            )

    def _named(self) -> str:
        return "|".join(c.row.kind for c in self.candidates)

    def __str__(self) -> str:
        noisy = any(c.row.stochastic for c in self.candidates)
        return f"auto({self.bound!r},{self._named()})" + "+sr" * noisy + "+ef" * self.candidates[0].error_feedback


@dataclass(frozen=True)
class Piece:
    """A choice for steps below `until`; None: for all later steps."""

    choice: Codec | Auto
    until: int | None = None

    def __str__(self) -> str:
        return f"{self.choice}" if self.until is None else f"{self.choice}@{self.until}"


@dataclass(frozen=True)
class Direction:
    """One direction of a table's exchange: pieces by step; the last has no end."""

    pieces: tuple[Piece, ...] = (Piece(Codec()),)

    def __post_init__(self) -> None:
        ends = [p.until for p in self.pieces[:-1]]
        if not self.pieces or self.pieces[-1].until is not None or None in ends:
            raise ValueError(f"every piece but the last must end at a step (KIND@STEP); got {self}.")
        if any(a >= b for a, b in pairwise([0, *(end for end in ends if end is not None)])):
            raise ValueError(f"steps must ascend; got {self}.")

    @classmethod
    def parse(cls, text: str) -> Direction:
        """The Direction of a text; the head of this file has examples.

        Raises:
          ValueError: the text is wrong.
        """
        return cls(tuple(_piece(part) for part in _split(text)))

    def choice(self, step: int) -> Codec | Auto:
        """The choice of this step, counted from 0."""
        if step < 0:
            raise ValueError(f"step must be at least 0; got {step}.")
        return next(p.choice for p in self.pieces if p.until is None or step < p.until)

    def at(self, step: int, adaptive: Adaptive | None = None) -> Codec:
        """The codec of this step. If it is chosen by error, the codec of `adaptive`, or without that the most exact one."""
        choice = self.choice(step)
        if isinstance(choice, Codec):
            return choice
        return choice.candidates[-1] if adaptive is None else adaptive.codec

    def adaptive(self) -> Adaptive | None:
        """A new chooser for the piece that chooses by error; None without such a piece.

        Raises:
          ValueError: several pieces choose by error.
        """
        autos = [p.choice for p in self.pieces if isinstance(p.choice, Auto)]
        if len(autos) > 1:
            raise ValueError(f"one piece may choose by error; got {self}.")
        return Adaptive(autos[0]) if autos else None

    @property
    def codecs(self) -> tuple[Codec, ...]:
        """All codecs that may be used."""
        return tuple(
            c for p in self.pieces for c in (p.choice.candidates if isinstance(p.choice, Auto) else [p.choice])
        )

    @property
    def error_feedback(self) -> bool:
        """Whether any codec keeps a residual."""
        return any(c.error_feedback for c in self.codecs)

    def __str__(self) -> str:
        return ",".join(map(str, self.pieces))


class Adaptive:
    """Chooses among an Auto's candidates by the observed errors of the codec in use.

    The first choice is the most exact candidate. After PATIENCE observations with a smoothed error within the bound the
    next smaller one is chosen; as soon as the error exceeds the bound, the next larger one. A codec that failed is tried
    again after RETRY observations. The choice depends on the observed errors alone: ranks that observe equal errors
    (Σ‖x − decoded‖² and Σ‖x‖² all-reduced) choose the same codec.
    """

    def __init__(self, auto: Auto) -> None:
        self.auto = auto
        self._at, self._seen, self._error = len(auto.candidates) - 1, 0, 0.0
        self._wait = [0] * len(auto.candidates)

    @property
    def codec(self) -> Codec:
        """The codec to use now."""
        return self.auto.candidates[self._at]

    def observe(self, error: float) -> None:
        """Record the relative error of `codec`; an error that is not finite exceeds the bound."""
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
        """Continue from a state_dict.

        Raises:
          ValueError: the state is of other candidates.
        """
        wait = state["wait"]
        if not isinstance(wait, list) or len(wait) != len(self._wait):
            raise ValueError(f"the state is of other candidates than {self.auto}; got {state}.")
        self._at, self._seen = int(str(state["at"])), int(str(state["seen"]))
        self._error, self._wait = float(str(state["error"])), [int(w) for w in wait]


@dataclass(frozen=True)
class Precision:
    """The precision of a table's exchange: `forward` of rows, `backward` of gradients. Sums are always float32.

    A direction may be a text.

    Raises:
      ValueError: a text is wrong; forward has topk, though every row must arrive; or accumulate is not fp32.
    """

    forward: Direction = Direction()
    backward: Direction = Direction()
    accumulate: str = "fp32"

    def __post_init__(self) -> None:
        for name in ("forward", "backward"):
            given = getattr(self, name)
            if isinstance(given, str):
                object.__setattr__(self, name, Direction.parse(given))
        if any(c.top is not None for c in self.forward.codecs):
            raise ValueError(
                f"topk is for gradients: every row that was asked for must arrive; got {self.forward}. "
                "Write forward=KIND,backward=topk(SHARE,KIND)."
            )
        if self.accumulate != "fp32":
            raise ValueError(f"accumulate must be fp32; got {self.accumulate!r}.")

    @classmethod
    def parse(cls, text: str) -> Precision:
        """From one text for both directions, or forward=…,backward=…; a missing direction is fp32.

        Raises:
          ValueError: the text is wrong.
        """
        ways: dict[str, str] = {}
        for part in _split(text):
            name, given = _named(part)
            if name in ways:
                raise ValueError(f"{name} is given twice in {text!r}.")
            if name:
                ways[name] = given
            else:  # another piece of the direction before it
                name = next(reversed(ways), "both")
                ways[name] = f"{ways[name]},{given}" if name in ways else given
        if "both" in ways and len(ways) > 1:
            raise ValueError(f"give one precision for both ways, or forward=…,backward=…; got {text!r}.")
        directions = {name: Direction.parse(given) for name, given in ways.items()}
        both = directions.get("both", Direction())
        return cls(directions.get("forward", both), directions.get("backward", both))

    @classmethod
    def of(cls, given: Precision | str | None) -> Precision:
        """A Precision, that of a text, or fp32 for None.

        Raises:
          TypeError: given is none of these.
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


def _named(part: str) -> tuple[str, str]:
    for name in ("forward", "backward"):
        if part.startswith(name + "="):
            return name, part.removeprefix(name + "=")
    return "", part


def _split(text: str) -> list[str]:
    """The parts between commas outside of brackets, without spaces."""
    return re.split(r",(?![^()]*\))", re.sub(r"\s+", "", text))


def _piece(text: str) -> Piece:
    choice, at, step = text.partition("@")
    if at and not (step.isascii() and step.isdigit()):
        raise ValueError(f"a piece ends at a step, as in fp32@1000; got {text!r}.")
    return Piece(_choice(choice), int(step) if at else None)


def _choice(text: str) -> Codec | Auto:
    name, *flags = re.split(r"\+(?![^()]*\))", text)
    if any(flag not in ("sr", "ef") for flag in flags) or len(set(flags)) != len(flags):
        raise ValueError(f"after a codec come +sr (stochastic rounding) and +ef (error feedback), once; got {text!r}.")
    noisy, feedback = "sr" in flags, "ef" in flags
    call = re.fullmatch(r"(topk|auto)\((.*)\)", name)
    if call is None:
        return Codec(_row(name, noisy), None, feedback)
    number, _, rest = call[2].partition(",")
    if call[1] == "topk":
        return Codec(_row(rest, noisy), _share(number), feedback)
    kinds = rest.split("|") if rest else CANDIDATES
    return Auto(_share(number), tuple(Codec(_row(k, noisy and k not in EXACT), None, feedback) for k in kinds))


def _row(kind: str, stochastic: bool) -> RowCodec:
    if kind not in CODEC_IDS:
        wanted = ", ".join(CODEC_IDS)
        raise ValueError(f"a codec is one of {wanted}, topk(SHARE,KIND) or auto(BOUND,KIND|KIND); got {kind!r}.")
    return RowCodec(kind, stochastic)


def _share(text: str) -> float:
    """The number of "0.1" or "10%"."""
    try:
        number = Decimal(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except InvalidOperation:
        raise ValueError(f"a share is a number as 0.1 or 10%; got {text!r}.") from None
    return float(number)
