"""No annotation calls an exchange, a table or a storage `Any`: who reads the name may follow it."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOUNS = {"exchange", "exchanges", "table", "tables", "storage", "storages"}
MANY = {"Collection", "Iterable", "Iterator", "Mapping", "Sequence", "list", "set", "tuple"}


def found(source: str) -> list[str]:
    """The annotated names, of variables, parameters and what functions return, that are an Any."""
    return [name for name, annotation in annotated(ast.parse(source)) if is_noun(name) and is_any(annotation)]


def annotated(tree: ast.Module) -> Iterator[tuple[str, ast.expr | None]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign):
            yield ast.unparse(node.target), node.annotation
        elif isinstance(node, ast.arg):
            yield node.arg, node.annotation
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name.removesuffix("_of"), node.returns


def is_noun(name: str) -> bool:
    """Whether the last word says so: `self._exchange`, `exchange_of(…)`, `old_tables`."""
    return name.replace(".", "_").split("_")[-1] in NOUNS


def is_any(annotation: ast.expr | None) -> bool:
    """Any itself, Any or None, or many of it."""
    match annotation:
        case ast.Name("Any"):
            return True
        case ast.Attribute(attr="Any"):
            return True
        case ast.Constant(str() as text):
            return is_any(ast.parse(text, mode="eval").body)
        case ast.BinOp(left, ast.BitOr(), right):
            return is_any(left) or is_any(right)
        case ast.Subscript(ast.Name(kind), ast.Tuple(parts)) if kind in MANY:
            return any(map(is_any, parts))
        case ast.Subscript(ast.Name(kind), part) if kind in MANY or kind == "Optional":
            return is_any(part)
    return False


def in_library() -> dict[str, list[str]]:
    names = {path: found(path.read_text()) for path in sorted((ROOT / "recis_core").rglob("*.py"))}
    return {str(path.relative_to(ROOT)): here for path, here in names.items() if here}


def test_none_is_any() -> None:
    here = in_library()
    assert not here, f"type these as what they are, under TYPE_CHECKING where an import would be late: {here}"


def test_each_way_to_say_any_is_found() -> None:
    source = """
class Reader:
    exchange: Any = None
    _storage: typing.Any | None
    table: Table
    def __init__(self, tables: Mapping[str, Any], old_exchange: "Any", table: PhysicalTable, state: Any) -> None:
        self.own_table: Optional[Any] = None
def exchange_of(model) -> Any: ...
def table_rows(model) -> Any: ...
def tables(model) -> list[Any]: ...
def by_name(tables: Mapping[str, Table]) -> Any: ...
"""
    wanted = ["exchange", "_storage", "tables", "old_exchange", "self.own_table", "exchange", "tables"]
    assert Counter(found(source)) == Counter(wanted)
