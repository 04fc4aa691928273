"""docs/compat-torchrec.md runs, and both names give the same modules."""

from __future__ import annotations

from pathlib import Path

from tests.hygiene.blocks import blocks_of, run

PROGRAM = """
import torchrec.sparse.jagged_tensor as by_alias
import recis_core.compat.torchrec.sparse.jagged_tensor as by_name
print(by_alias is by_name, torchrec.EmbeddingBagCollection is EmbeddingBagCollection, torchrec.__version__)
"""


def test_the_pages_programs_run(tmp_path: Path) -> None:
    page = blocks_of(Path(__file__).parents[3] / "docs" / "compat-torchrec.md")
    first, _, step, last = run([*page, ("python", "import torchrec" + PROGRAM)], tmp_path, RECIS_BACKEND="torch")
    assert first == ""
    assert step.splitlines() == [
        "['user', 'clicked', 'item'] torch.Size([2, 24])",
        "{'ebc.embedding_bags.t_user.weight': [1000, 8], 'ebc.embedding_bags.t_item.weight': [1000, 8], "
        "'over.weight': [1, 24], 'over.bias': [1]}",
    ]
    assert last.split() == ["True", "True", "1.8.0"]
