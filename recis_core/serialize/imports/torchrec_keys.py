"""Names in a TorchRec state_dict, nested or flat: which are tables, which their optimizer's states, which the dense side.

    model.sparse.ebc.embedding_bags.item.weight                       rows of table "item"
    optimizer.state.sparse.ebc.embedding_bags.item.weight.item.momentum1

Sizes: n rows, D dim.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from recis_core.backends.errors import StateMismatch

COLLECTION = r"(?:.*\.)?(?:embedding_bags|embeddings)\.([^.]+)\.weight"
TABLE, STATE = re.compile(COLLECTION), re.compile(COLLECTION + r"\.(?:.*\.)?([^.]+)")
MODEL = ("model", "state_dict")  # keys under which programs keep a model's state
FIRST, SECOND = ("momentum1", "momentum_1"), ("momentum2", "momentum_2")
NAMED = {"exp_avg": "m", "exp_avg_sq": "v", "sum": "sum"}


@dataclass
class TableKeys:
    """weight: the key of the rows. states: {the optimizer's name of a state: its key}."""

    weight: str
    states: dict[str, str] = field(default_factory=dict)


def tables_in(keys: Iterable[str], where: str, prefix: str = "") -> dict[str, TableKeys]:
    """{table: its keys}.

    Raises:
      StateMismatch: there is no table, or two collections have one of the same name.
    """
    mine = [key for key in keys if key.startswith(prefix)]
    found: dict[str, TableKeys] = {}
    for key in mine:
        if (table := TABLE.fullmatch(key)) is None:
            continue
        if table[1] in found:
            raise StateMismatch(
                f"{where} has several tables {table[1]!r}: {found[table[1]].weight} and {key}. Say which by prefix=, the "
                "beginning of its key."
            )
        found[table[1]] = TableKeys(key)
    if not found:
        raise StateMismatch(
            f"{where} has no table: no key ends in embedding_bags.TABLE.weight or embeddings.TABLE.weight. It has "
            f"{', '.join(mine[:5]) or 'no such keys at all'}."
        )
    for key in keys:
        state = STATE.fullmatch(key)
        if state is not None and state[1] in found:
            found[state[1]].states[state[2]] = key
    return found


def our_slots(shapes: Mapping[str, tuple[int, ...]], rows: int, dim: int, momentum1: str) -> dict[str, str]:
    """{our slot: the optimizer's name of the state}, for states of a width that the slot has.

    momentum1 alone is what the argument says; beside a second moment it is Adam's first.
    """
    names: dict[str, str] = {NAMED[state]: state for state in shapes if state in NAMED}
    first = next((state for state in shapes if state in FIRST), None)
    second = next((state for state in shapes if state in SECOND), None)
    if second is not None:
        names.setdefault("v", second)
    if first is not None:
        names.setdefault("m" if "v" in names else momentum1, first)
    allowed = {"m": (dim,), "v": (dim,), "momentum": (dim,), "sum": (dim, 1)}
    return {slot: state for slot, state in names.items() if _width(shapes[state], rows) in allowed[slot]}


def _width(shape: tuple[int, ...], rows: int) -> int | None:
    """Columns of a state with a line for each row, [n] or [n, width]; None for another."""
    if not shape or shape[0] != rows or len(shape) > 2:
        return None
    return shape[1] if len(shape) == 2 else 1


def model_key(tables: Iterable[TableKeys]) -> str:
    """The key of the model's state_dict, with its dot; "" where the tables' keys begin with none."""
    heads = {table.weight.split(".")[0] for table in tables}
    return f"{heads.pop()}." if len(heads) == 1 and heads <= set(MODEL) else ""


def dense_names(keys: Iterable[str], tables: Mapping[str, TableKeys]) -> dict[str, str]:
    """{name in the model: key} of what is neither a table nor an optimizer's."""
    head = model_key(tables.values())
    taken = {key for table in tables.values() for key in (table.weight, *table.states.values())}
    left = [key for key in keys if key not in taken and key.startswith(head) and not key.startswith("optim")]
    return {key.removeprefix(head): key for key in left}
