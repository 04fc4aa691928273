"""recis_core.errors has every exception that users catch."""

from __future__ import annotations

import ast
import builtins
import json
import subprocess
import sys
from pathlib import Path

import recis_core.errors

ROOT = Path(__file__).parents[2]
FOLDERS = ("recis_core", "backends", "bridge", "pallas_kernels", "bench")
NEVER_A_USERS = {
    "ToolchainMissing",  # of `make machine-code`, which reports it
    "FlagError",  # of the command line, which reports it in one line
    "WrongValue",  # of config files, which make a FlagError of it that names file and line
    "RowError",  # of readers, which make a ValueError of it that names file, column and row
}


def exceptions_in_sources() -> dict[str, str]:
    """{public class: its file} of all that derives from Exception."""
    bases: dict[str, tuple[set[str], str]] = {}
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    names = {base.id if isinstance(base, ast.Name) else ast.unparse(base) for base in node.bases}
                    bases[node.name] = names, str(path.relative_to(ROOT))
    known = {n for n, v in vars(builtins).items() if isinstance(v, type) and issubclass(v, Exception)}
    found: set[str] = set()
    while more := {n for n, (names, _) in bases.items() if names & (known | found)} - found:
        found |= more
    return {name: bases[name][1] for name in found if not name.startswith("_")}


def test_every_public_exception_is_there() -> None:
    defined = exceptions_in_sources()
    assert {"RecisError", "TableFull", "StreamGap", "PlanDoesNotFit", "BridgeError"} <= defined.keys()
    missing = {n: path for n, path in defined.items() if n not in recis_core.errors.__all__}
    assert missing.keys() == NEVER_A_USERS, f"not in recis_core.errors: {missing}"
    assert set(recis_core.errors.__all__) <= defined.keys()


def test_they_are_the_classes_that_are_raised() -> None:
    from recis_core.backends import errors
    from recis_core.bridge import BridgeError

    for name in recis_core.errors.__all__:
        found = getattr(recis_core.errors, name)
        assert found is (BridgeError if name == "BridgeError" else getattr(errors, name))
        assert found.__doc__
        assert name == "BridgeError" or issubclass(found, recis_core.errors.RecisError)


def test_importing_them_loads_no_jax() -> None:
    code = "import recis_core.errors, sys, json; print(json.dumps([m for m in ('jax', 'torch', 'numba') if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "jax" not in json.loads(done.stdout)
