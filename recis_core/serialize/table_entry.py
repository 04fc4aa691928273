"""How a table's rows lie in the parts of a checkpoint, as its manifest says.

{"dim": 8, "dtype": "F32", "slots": {"exp_avg": 8}, "whole": true,
 "files": [["table.user.rank-0.0"], ["table.user.rank-0.1"], …]}

Each of `files` holds other rows; where ranks keep blocks of columns, one lists a part for each block, left to right. A part's
tree is {"ids", "rows", "slots": {…}, "marks": {…}, "erased"}.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recis_core.serialize.part_file import DTYPES, Declared
from recis_core.serialize.tree import join_tensors

if TYPE_CHECKING:
    from recis_core.serialize.manifest import Part

KEYS = {"dim", "dtype", "slots", "whole", "files"}


@dataclass(frozen=True)
class TableEntry:
    """dim: columns of a whole row. dtype: of rows, by safetensors' name. slots: {name: width}.

    whole: whether the files hold all rows; else those that came, changed or went since the base.
    files: names of parts, see above.
    """

    dim: int
    dtype: str
    slots: Mapping[str, int]
    whole: bool
    files: list[list[str]]


def read_entry(name: str, values: Any, parts: Mapping[str, Part]) -> TableEntry:
    """Raises ValueError unless values are an entry, and its files parts that hold what it says."""
    if not isinstance(values, dict) or set(values) != KEYS:
        raise ValueError(f"table {name!r} wants the keys {sorted(KEYS)}; got {str(values)[:200]}.")
    entry = TableEntry(**values)
    slots = entry.slots.items() if isinstance(entry.slots, dict) else [("", None)]
    if not _positive(entry.dim) or entry.dtype not in DTYPES or not all(_positive(width) for _, width in slots):
        raise ValueError(f"table {name!r} has no dim, dtype and widths of slots; got {str(values)[:200]}.")
    if type(entry.whole) is not bool or not isinstance(entry.files, list):
        raise ValueError(f"table {name!r} has no list of files.")
    seen: set[str] = set()
    for group in entry.files:
        _check_group(name, group, parts, seen)
        _check_columns(name, entry, [forms_of(parts[part]) for part in group])
    return entry


def _positive(number: Any) -> bool:
    return type(number) is int and 0 < number < 2**31


def _check_group(name: str, group: Any, parts: Mapping[str, Part], seen: set[str]) -> None:
    if not isinstance(group, list) or not group or not all(isinstance(part, str) and part in parts for part in group):
        raise ValueError(f"table {name!r} names files that are no parts: {str(group)[:200]}.")
    if twice := seen & set(group):
        raise ValueError(f"table {name!r} names {sorted(twice)[:3]} twice.")
    seen.update(group)


def forms_of(part: Part) -> dict[str, Any]:
    """The part's tree with dtype and shape in place of each tensor. Raises ValueError for a tree of other keys."""
    tree = join_tensors(part.tree, part.tensors)
    keys = {"ids", "rows", "slots", "marks", "erased"}
    if not isinstance(tree, dict) or set(tree) != keys or not all(type(tree[k]) is dict for k in ("slots", "marks")):
        raise ValueError(f"a table's part wants the keys {sorted(keys)}; got {str(part.tree)[:200]}.")
    if len(part.tensors) != 3 + len(tree["slots"]) + len(tree["marks"]):  # tuples could stand for dtype and shape
        raise ValueError(f"a table's part holds tensors alone; got {str(part.tree)[:200]}.")
    return tree


def _check_columns(name: str, entry: TableEntry, forms: list[dict[str, Any]]) -> None:
    """Each part has as many ids, rows, slots and marks; columns of all parts make whole rows."""
    count = _shape(forms[0]["ids"], "I64", 1)[0]
    for form in forms:
        fits = _shape(form["ids"], "I64", 1) == (count,) and _shape(form["rows"], entry.dtype, 2)[0] == count
        fits &= all(_shape(slot, "F32", 2)[0] == count for slot in form["slots"].values())
        fits &= all(_shape(mark, "I32", 1) == (count,) for mark in form["marks"].values())
        _shape(form["erased"], "I64", 1)
        if not fits or set(form["slots"]) != set(entry.slots) or set(form["marks"]) != set(forms[0]["marks"]):
            raise ValueError(f"a file of table {name!r} has other slots or counts than its entry: {str(form)[:300]}.")
    widths = {"rows": entry.dim, **{f"slot {slot!r}": width for slot, width in entry.slots.items()}}
    found = {"rows": sum(form["rows"][1][1] for form in forms)}
    found |= {f"slot {slot!r}": sum(form["slots"][slot][1][1] for form in forms) for slot in entry.slots}
    if found != widths:
        raise ValueError(f"a file of table {name!r} has {found} columns; its entry says {widths}.")


def _shape(form: Any, kind: str, dims: int) -> tuple[int, ...]:
    fits = isinstance(form, tuple) and len(form) == 2 and form[0] == kind and len(form[1]) == dims
    if not fits:
        raise ValueError(f"a table's part holds {str(form)[:80]}; wanted a tensor of {kind} with {dims} dimensions.")
    declared: Declared = form
    return declared[1]
