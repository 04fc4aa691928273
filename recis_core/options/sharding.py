"""Which rank holds which rows of a table."""

from __future__ import annotations

import re
from dataclasses import dataclass

KINDS = ("row", "table", "column", "replicated")
FORM = re.compile(r"(?:(row)(?:\+hot\(([0-9]+)\))?|(table):([0-9]+)|(column)|(replicated))")


@dataclass(frozen=True)
class Sharding:
    """One table's sharding. `parse(str(sharding))` gives an equal one.

    Args:
      kind: "row", each row is on the rank that owns its slice of the hash; "table", all rows are on `owner`; "column",
        every rank holds an equal block of columns of all rows; "replicated", every rank holds all rows, and
        gradients are all-reduced.
      owner: the rank of "table"; None for other kinds.
      hot_rows: with "row", the number of most used rows of which every rank holds a copy.

    Raises:
      TypeError, ValueError: an argument is wrong, or does not go with kind.
    """

    kind: str = "row"
    owner: int | None = None
    hot_rows: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"sharding must be one of {', '.join(KINDS)}; got {self.kind!r}.")
        owner = () if self.owner is None else (("owner", self.owner),)
        for name, value in (*owner, ("hot_rows", self.hot_rows)):
            if type(value) is not int:
                raise TypeError(f"{name} must be an int; got {value!r}.")
        if (self.kind == "table") != (self.owner is not None):
            raise ValueError(f'owner goes with "table", and "table" needs one; got {self.kind!r}, owner {self.owner}.')
        if self.owner is not None and self.owner < 0:
            raise ValueError(f"owner must be a rank, 0 or more; got {self.owner}.")
        if self.hot_rows < 0 or (self.hot_rows and self.kind != "row"):
            raise ValueError(f'hot_rows must be 0 or more, and goes with "row"; got {self.hot_rows} of {self.kind!r}.')

    @classmethod
    def parse(cls, text: str) -> Sharding:
        """From "row", "row+hot(1000)", "table:3", "column" or "replicated"."""
        found = FORM.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"sharding must read row, row+hot(1000), table:3, column or replicated; got {text!r}.")
        row, hot, table, owner, column, replicated = found.groups()
        kind = row or table or column or replicated
        return cls(kind, int(owner) if owner else None, int(hot or 0))

    @classmethod
    def of(cls, given: Sharding | str) -> Sharding:
        """A Sharding, or the Sharding of a text."""
        return given if isinstance(given, cls) else cls.parse(str(given))

    def __str__(self) -> str:
        if self.kind == "table":
            return f"table:{self.owner}"
        return f"row+hot({self.hot_rows})" if self.hot_rows else self.kind

    def check_world(self, world_size: int) -> None:
        """Raises ValueError if the owner is none of `world_size` ranks."""
        if self.owner is not None and self.owner >= world_size:
            raise ValueError(f"owner {self.owner} is none of {world_size} ranks; they count from 0.")
