"""docs/metrics.md: its Python blocks run one after another, and each prints."""

from __future__ import annotations

from typing import Any

from recis_core.metrics import names
from tests.hygiene.blocks import PYTHON, ROOT, blocks_of

PAGE = ROOT / "docs" / "metrics.md"


def test_blocks(capsys: Any) -> None:
    blocks, space = [code for kind, code in blocks_of(PAGE) if kind == PYTHON], dict[str, Any]()
    assert len(blocks) == 2
    printed = []
    for code in blocks:
        exec(code, space)
        printed.append(capsys.readouterr().out.split())
    assert [float(word) for word in printed[0][:2]] == [4.5 / 6, (1 + 2 * 0.25) / 3]
    assert printed[0][3:] == ["NDCGAtK(10,", "'skip')"]
    assert 0.5 < float(printed[1][0]) <= 1


def test_every_name_is_told() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    told = {word.split("@")[0] for row in rows for word in row.split("|")[2].replace(",", " ").split()}
    assert told == set(names.NAMED)
