"""Rows of a state as blocks, the form in which checkpoints and importers have rows, and back.

Sizes: n rows of a block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from recis_core.jax.rows import parts_by_owner, snapshot_of, with_snapshots
from recis_core.jax.state import TableState
from recis_core.plain_torch import in_plain_torch
from recis_core.serialize.checkpoint.load_rows import snapshot_of as rows_of_block
from recis_core.serialize.checkpoint.table_files import check_block, cut
from recis_core.serialize.table_block import TableBlock


def blocks_of(state: TableState, name: str, rows: int = 65_536) -> Iterator[TableBlock]:
    """The table's rows with slots and marks, ascending by id, for `new_checkpoint(…).table(name, blocks, …)`.

    The arrays are copied to the host when the first block is asked for.

    Raises:
      ValueError: the state has no such table, or rows is below 1.
    """
    ordinal = state.config.ordinal(name)
    if rows < 1:
        raise ValueError(f"rows of a block must be at least 1; got {rows}.")
    whole = snapshot_of(state)
    mine = (whole.tables == ordinal).nonzero().flatten()
    mine = mine[whole.ids[mine].argsort()]
    marks = {"scores": whole.scores, "stamps": whole.stamps}
    everything = TableBlock(
        whole.ids, whole.weights, whole.slots, {name: values for name, values in marks.items() if values is not None}
    )
    for at in mine.split(rows):
        yield cut(everything, at)


@in_plain_torch
def load_blocks(state: TableState, name: str, blocks: Iterable[TableBlock]) -> TableState:
    """The state with these rows of a table, as `open_checkpoint(…).blocks(name)` gives them; others stay.

    Slots that a block lacks get initial values, and slots that the rule lacks are left out. The state's arrays are donated.

    Raises:
      ValueError: the state has no such table, or a block has another form. The blocks before are in arrays that are lost
        then, so keep what you loaded from.
    """
    ordinal, known = state.config.ordinal(name), {slot.name for slot in state.config.slots}
    for block in blocks:
        check_block(block, name, state.config.dim, getattr(torch, state.config.dtype))
        slots = {slot: values for slot, values in block.slots.items() if slot in known}
        fitting = TableBlock(block.ids, block.rows, slots, block.marks)
        state = with_snapshots(state, parts_by_owner(state, rows_of_block(fitting, ordinal)))
    return state
