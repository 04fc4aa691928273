"""Names of arrays in a RecIS v1 checkpoint.

    item.embedding/part_0_2        rows of table "item", shard 0 of 2; the last dot divides table and slot
    tower.weight^<blank>           a plain tensor

Slots of optimizers are sparse_adamw_exp_avg and the like; here they are m and v.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from recis_core.backends.errors import StateMismatch

PART = re.compile(r"(.+)\.([^./]+)/part_(\d+)_(\d+)", re.DOTALL)
PLAIN = "^ "  # ends a plain tensor's key
ID, ROWS, STEP = "id", "embedding", "step_filter"
MOMENTS = {"_exp_avg_sq": "v", "_exp_avg": "m"}  # longest first
SLICES = 65_536
ID_BITS = 52  # that are left of an id in a coalesced table


@dataclass(frozen=True)
class BlockKey:
    """One shard's block of one slot of a table."""

    table: str
    slot: str
    part: int
    parts: int

    def __str__(self) -> str:
        return f"{self.table}.{self.slot}/part_{self.part}_{self.parts}"

    @property
    def tensor_name(self) -> str:
        """As RecIS's reader lists the tensor that all parts make up: table@slot."""
        return f"{self.table}@{self.slot}"

    @property
    def slice_name(self) -> str:
        """As tensorkey.json has it: which slices of 65,536 the shard holds."""
        begin, end = slices_of(self.part, self.parts)
        width = len(str(SLICES))
        return f"{self.tensor_name}^{begin:0{width}}@{end:0{width}}@{SLICES}"


def block_key(key: str) -> BlockKey | None:
    """None if the key is no table's."""
    found = PART.fullmatch(key)
    return None if found is None else BlockKey(found[1], found[2], int(found[3]), int(found[4]))


def slices_of(shard: int, shards: int) -> tuple[int, int]:
    """[begin, end) of the shard among 65,536 slices; the first shards have one more where they are not equal."""
    each, more = divmod(SLICES, shards)
    begin = shard * each + min(shard, more)
    return begin, begin + each + (shard < more)


def our_slots(table: str, theirs: list[str], optimizer: str | None = None) -> dict[str, str]:
    """{our slot: theirs} of an optimizer's slots in a table.

    optimizer: RecIS's prefix, as "sparse_adamw", where a table has slots of several.

    Raises:
      StateMismatch: several optimizers left slots, and none is chosen.
    """
    found: dict[str, dict[str, str]] = {}
    for slot in theirs:
        for ending, ours in MOMENTS.items():
            if slot.endswith(ending):
                found.setdefault(slot.removesuffix(ending), {})[ours] = slot
                break
    if optimizer is not None:
        return found.get(optimizer, {})
    if len(found) > 1:
        raise StateMismatch(
            f"table {table!r} has slots of several optimizers: {', '.join(sorted(found))}. Say whose are wanted: "
            f'optimizer="{min(found)}".'
        )
    return next(iter(found.values()), {})
