"""The plan as a file: there and back, and what is wrong with it by name."""

import json
import subprocess
import sys

import pytest

from recis_core.options.plan_file import read_plan, write_plan
from recis_core.options.sharding import Sharding

PLAN = {
    "user": Sharding(hot_rows=1000),
    "item": Sharding(),
    "shop": Sharding("table", 3),
    "text": Sharding("column"),
    "no": Sharding("replicated"),
    "12": Sharding(),
    "a: b #c": Sharding(),
}


def test_there_and_back(tmp_path):
    write_plan(tmp_path / "plan.yaml", PLAN, "dlrm on 8 ranks\nof 80GB")
    got = read_plan(tmp_path / "plan.yaml", world_size=8)
    assert got == PLAN
    assert list(got) == list(PLAN)
    text = (tmp_path / "plan.yaml").read_text()
    assert text.startswith("# dlrm on 8 ranks\n# of 80GB\nuser: {sharding: row, hot_rows: 1000}\n")
    assert "shop: {sharding: table, owner: 3}\n" in text


def test_no_tables(tmp_path):
    write_plan(tmp_path / "plan.yaml", {})
    assert read_plan(tmp_path / "plan.yaml") == {}


def test_text_forms_are_read(tmp_path):
    (tmp_path / "p.yaml").write_text("a: row+hot(7)\nb: table:1\n")
    assert read_plan(tmp_path / "p.yaml") == {"a": Sharding(hot_rows=7), "b": Sharding("table", 1)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- row", "must map table names to shardings; got list"),
        ("", "must map table names to shardings; got NoneType"),
        ("1: row", "must map table names to shardings"),
        ("a: {kind: row}", "p.yaml: a: wanted {sharding: …} or a text"),
        ("a: {sharding: row, hot: 3}", "p.yaml: a: there is no key 'hot'; keys are sharding, owner, hot_rows"),
        ("a: {sharding: table}", 'p.yaml: a: owner goes with "table"'),
        ("a: {sharding: table, owner: '3'}", "p.yaml: a: owner must be an int; got '3'"),
        ("a: {sharding: row, hot_rows: null}", "p.yaml: a: hot_rows must be an int; got None"),
        ("a: table:9", "p.yaml: a: owner 9 is none of 8 ranks"),
        ("a: row\na: column", "key 'a' is given twice"),
        ("a: [", "is not YAML"),
        ("[" * 3000, "nests too deeply"),
    ],
)
def test_mistakes_are_named(tmp_path, text, message):
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(ValueError) as raised:
        read_plan(tmp_path / "p.yaml", world_size=8)
    assert message in str(raised.value)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_plan(tmp_path / "none.yaml")


def test_reading_a_plan_loads_neither_torch_nor_pydantic():
    code = (
        "import recis_core.options.plan_file, sys, json; "
        "print(json.dumps(sorted({'torch', 'jax', 'numba', 'pydantic', 'rich'} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
