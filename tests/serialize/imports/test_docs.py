"""docs/checkpoint-import.md: its Python runs as it stands, one block after another."""

from tests.hygiene.blocks import PYTHON, ROOT, blocks_of


def test_blocks_of_the_page(capsys):
    names: dict[str, object] = {}
    blocks = [code for kind, code in blocks_of(ROOT / "docs" / "checkpoint-import.md") if kind == PYTHON]
    assert len(blocks) == 2
    for code in blocks:
        exec(compile(code, "checkpoint-import.md", "exec"), names)
    assert capsys.readouterr().out == "{'item': 3} ('user',)\n"
