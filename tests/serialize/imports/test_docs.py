"""docs/checkpoint-import.md: its Python runs as it stands, one block after another."""

from recis_core.cli import main
from tests.hygiene.blocks import PYTHON, ROOT, blocks_of
from tests.serialize.imports import recis_files


def test_blocks_of_the_page(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["ckpt", "import", str(recis_files.write(tmp_path / "recis-output")), "ours", "--load", "item"]) == 0
    capsys.readouterr()
    names: dict[str, object] = {}
    blocks = [code for kind, code in blocks_of(ROOT / "docs" / "checkpoint-import.md") if kind == PYTHON]
    assert len(blocks) == 3
    for code in blocks:
        exec(compile(code, "checkpoint-import.md", "exec"), names)
    assert capsys.readouterr().out == "{'item': 3} ('user',)\n"
    assert names["sparse"].state_dict()["t"] == {"item": recis_files.T}
    assert names["restored"].fresh == ["optimizer/sparse: numbers of groups, which it does not hold"]
