"""What a reader of a stream may be made to hold.

Sizes: n rows, D dim.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from recis_core.backends.errors import PacketError

CONSTANT = 1 << 26  # what served tables may take however little was sent of them
INDEX_BYTES = 72  # of a row: its place in the table's index, at most
TABLE_BYTES = 1 << 14  # of a table without rows


@dataclass(frozen=True)
class ReaderBounds:
    """Bounds of a RowStore, whose docstring says what each means."""

    max_bytes: int | None
    max_pending_bytes: int
    max_packets: int
    max_tables: int
    max_dim: int
    max_rows: int

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.name == "max_bytes":
                continue
            if type(value) is not int or value < 1:
                raise ValueError(f"{field.name} must be an int of at least 1; got {value!r:.80}.")

    def decoded_limit(self, sent: int) -> int:
        """Bytes that may be decoded of so many that were sent."""
        return 2 * sent + CONSTANT if self.max_bytes is None else self.max_bytes

    def check_decoded(self, what: str, wanted: int, sent: int) -> None:
        """Raises PacketError where `what` would take more."""
        if wanted <= (limit := self.decoded_limit(sent)):
            return
        allowed = f"max_bytes is {limit}" if self.max_bytes else (
            f"without max_bytes they may take twice what was sent and {CONSTANT} more, {limit}"
        )  # fmt: skip
        raise PacketError(
            f"{what} would take {wanted} bytes; {allowed}. Give RowStore(max_bytes=…) if they are wanted."
        )


def row_bytes(dim: int) -> int:
    return 4 * dim + INDEX_BYTES


def table_bytes(rows: int, dim: int) -> int:
    """What a served table takes, at most, but while it grows."""
    return TABLE_BYTES + rows * row_bytes(dim)
