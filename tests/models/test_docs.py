"""docs/sequences.md: its blocks run in order, and shapes are those that it says."""

from __future__ import annotations

from tests.hygiene.blocks import PYTHON, ROOT, blocks_of


def test_sequences() -> None:
    names: dict[str, object] = {}
    blocks = blocks_of(ROOT / "docs/sequences.md")
    assert [kind for kind, _ in blocks] == [PYTHON] * 4
    exec(blocks[0][1], names)
    assert names["logits"].shape == (5, 4)
    assert names["following"].tolist() == [5, 9, 7, 9, 8]
    exec(blocks[1][1], names)
    assert names["logits"].shape == (5, 4)
    assert names["loss"].isfinite()
    exec(blocks[2][1], names)
    assert names["losses"].shape == (5,)
    exec(blocks[3][1], names)
    assert names["out"].shape == (7, 2, 8)
