"""A row as the tiers below the device keep it: fixed width, with all that moves with the row.

    weights │ slots, in the table's order │ score f8 │ last used i4 │ version u4 │ uses i4, where a filter goes by them

Weights, and slots as wide as them, may be kept in fewer bits than on the device; "same" keeps the device's bits.

Sizes: n rows, D dim.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from recis_core.backends import RowCodec, SlotSpec, TableSpec, get
from recis_core.backends.errors import RecisError

MARKS = np.dtype([("score", "<f8"), ("used", "<i4"), ("version", "<u4")])
COUNTED = np.dtype([*MARKS.descr, ("uses", "<i4")])
Parts = tuple[np.ndarray, ...]  # of rows, the bytes of each part: uint8 [n, ·], contiguous


@dataclass
class Rows:
    """Weights and slots as on the device, on the CPU; and the marks that move with them."""

    weights: Tensor  # [n, D] as stored
    slots: dict[str, Tensor]  # float32 [n, width]
    marks: np.ndarray  # marks_of the table's spec [n]

    def pick(self, which: np.ndarray) -> Rows:
        """Rows by bool mask or position, copied."""
        at = np.flatnonzero(which) if which.dtype == np.bool_ else which
        each = torch.from_numpy(at.astype(np.int64))
        return Rows(self.weights[each], {name: values[each] for name, values in self.slots.items()}, self.marks[at])

    def followed_by(self, more: Rows) -> Rows:
        slots = {name: torch.cat([values, more.slots[name]]) for name, values in self.slots.items()}
        return Rows(torch.cat([self.weights, more.weights]), slots, np.concatenate([self.marks, more.marks]))


@dataclass(frozen=True)
class Part:
    """One array of a row: its columns, and how they are kept."""

    name: str
    width: int
    dtype: torch.dtype
    precision: str

    @property
    def bytes(self) -> int:
        if self.precision == "same":
            return self.width * self.dtype.itemsize
        return RowCodec(self.precision).row_bytes(self.width)


@dataclass
class Rounding:
    """The error of keeping rows in fewer bits so far, in the unit of the values."""

    squares: float = 0.0
    values: int = 0
    largest: float = 0.0

    def add(self, left: Tensor) -> None:
        self.squares += float(left.double().square().sum())
        self.values += left.numel()
        self.largest = max(self.largest, float(left.abs().max())) if left.numel() else self.largest

    @property
    def rms(self) -> float:
        return (self.squares / self.values) ** 0.5 if self.values else 0.0

    @property
    def rms_millionths(self) -> int:
        return round(1e6 * self.rms)


@dataclass
class RowFormat:
    """Of one tier of one table.

    precision: of weights. slot_precision: of slots that are as wide as the weights; narrower ones stay float32.
    """

    spec: TableSpec
    slots: tuple[SlotSpec, ...]
    precision: str = "same"
    slot_precision: str = "same"
    rounding: Rounding = field(default_factory=Rounding)

    def __post_init__(self) -> None:
        weights = Part("weights", self.spec.dim, getattr(torch, self.spec.dtype), self.precision)
        self.parts = (weights, *map(self._slot, self.slots))
        self.marks_dtype = marks_of(self.spec)
        self.cuts = np.cumsum([0, *(part.bytes for part in self.parts), self.marks_dtype.itemsize])
        self.marks_at, self.row_bytes = int(self.cuts[-2]), int(self.cuts[-1])

    def _slot(self, slot: SlotSpec) -> Part:
        wide = slot.width == self.spec.dim
        return Part(slot.name, slot.width, torch.float32, self.slot_precision if wide else "same")

    @property
    def tag(self) -> str:
        """Names the format: rows of different formats have different tags."""
        parts = ",".join(f"{p.name}:{p.width}:{str(p.dtype).removeprefix('torch.')}:{p.precision}" for p in self.parts)
        uses = ";uses" if self.marks_dtype == COUNTED else ""
        return f"rows-1;uids={','.join(map(str, self.spec.uids))};{parts}{uses}"

    def encode(self, rows: Rows) -> Parts:
        """Each part's bytes, and the marks'.

        Raises:
          RecisError: a row to be kept in fewer bits holds NaN or inf.
        """
        values = [rows.weights, *(rows.slots[part.name] for part in self.parts[1:])]
        marks = np.ascontiguousarray(rows.marks).view(np.uint8).reshape(-1, self.marks_dtype.itemsize)
        return *(self._bytes(*each) for each in zip(self.parts, values, strict=True)), marks

    def pack(self, rows: Rows) -> np.ndarray:
        """uint8 [n, row_bytes]: what `encode` gives, in one array."""
        return np.concatenate(self.encode(rows), 1)

    def put_marks(self, packed: np.ndarray, marks: np.ndarray) -> None:
        packed[:, self.marks_at :] = marks.view(np.uint8).reshape(-1, marks.itemsize)

    def _bytes(self, part: Part, values: Tensor) -> np.ndarray:
        if part.precision == "same":
            return _as_bytes(values)
        values = values.float().contiguous()
        encoded = get("numba").encode(values, torch.zeros_like(values), codec=RowCodec(part.precision))
        if len(encoded.exact):
            raise RecisError(
                f"{len(encoded.exact)} rows hold NaN or inf in {part.name!r}, which {part.precision} does not keep. "
                "Find where they come from, or let the tier keep the device's precision."
            )
        self.rounding.add(encoded.residual)
        return encoded.codes.numpy()

    def decode(self, parts: Parts) -> Rows:
        """The reverse of `encode`; values kept in fewer bits come rounded."""
        values = {part.name: self._values(part, each) for part, each in zip(self.parts, parts[:-1], strict=True)}
        return Rows(values.pop("weights"), values, parts[-1].view(self.marks_dtype).reshape(-1))

    def unpack(self, packed: np.ndarray) -> Rows:
        """As `decode`, from one array."""
        return self.decode(tuple(np.ascontiguousarray(part) for part in np.split(packed, self.cuts[1:-1], 1)))

    @staticmethod
    def _values(part: Part, packed: np.ndarray) -> Tensor:
        codes = torch.from_numpy(packed)
        if part.precision == "same":
            return codes.reshape(-1).view(part.dtype).reshape(-1, part.width)
        return get("numba").decode(codes, codec=RowCodec(part.precision), dim=part.width).to(part.dtype)

    def marks(self, packed: np.ndarray) -> np.ndarray:
        """[n] of packed rows, copied."""
        return packed[:, self.marks_at :].copy().view(self.marks_dtype).reshape(-1)

    def same_bytes(self, other: RowFormat) -> bool:
        return self.parts == other.parts

    def complete(self, weights: Tensor, slots: Mapping[str, Tensor], marks: np.ndarray) -> Rows:
        """Rows of which some slots are given; the others are as a new row's."""
        initial = {s.name: torch.full((len(weights), s.width), s.initial) for s in self.slots if s.name not in slots}
        return Rows(weights, {s.name: slots[s.name] if s.name in slots else initial[s.name] for s in self.slots}, marks)


def _as_bytes(values: Tensor) -> np.ndarray:
    values = values.detach().cpu().contiguous()
    return values.view(torch.uint8).numpy().reshape(len(values), -1)


def marks_of(spec: TableSpec) -> np.dtype:
    """The dtype of the marks of a table's rows."""
    return COUNTED if spec.score == "count" else MARKS


def new_marks(count: int, dtype: np.dtype = MARKS) -> np.ndarray:
    """Of rows that were never used."""
    marks = np.zeros(count, dtype)
    marks["score"] = -np.inf
    return marks
