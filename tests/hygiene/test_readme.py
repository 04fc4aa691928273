"""README's blocks run as they stand, one after another, in an empty directory, and each prints something; so do the docs'."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.hygiene.blocks import PYTHON, ROOT, blocks_of, run

README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").glob("*.md"))
RUNS = (
    "tables.md",
    "larger-than-memory.md",
    "features.md",
    "column-ops.md",
    "reading.md",
)  # of docs; exchange.md's programs run in tests/exchange
LINK = re.compile(r"\]\(([^)#:\s]+)(#[^)\s]+)?\)")


def test_readme_is_a_page() -> None:
    assert len(README.read_text().splitlines()) < 150


def test_readmes_blocks(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    blocks = blocks_of(README)
    assert len(blocks) >= 6
    printed = run(blocks, tmp_path / "empty", RECIS_BACKEND="numba")
    for (_, code), text in zip(blocks, printed, strict=True):
        assert text.strip(), f"nothing was printed by\n{code}"


@pytest.mark.parametrize("name", RUNS)
def test_blocks_of_docs(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    blocks = [block for block in blocks_of(ROOT / "docs" / name) if block[0] == PYTHON]
    assert all(text.strip() for text in run(blocks, tmp_path / "empty", RECIS_BACKEND="numba"))


def test_a_block_that_fails_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for block in ((PYTHON, "print(1)\n1 / 0\n"), ("sh", "echo before\nfalse\n")):
        with pytest.raises(AssertionError, match="this block failed"):
            run([block], tmp_path / "empty")


@pytest.mark.parametrize("page", [README, *PAGES, ROOT / "bench" / "results" / "README.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text()):
        path = page.parent / target
        assert path.exists(), f"{page.name} links to {target}"
        if anchor and path.suffix == ".md":
            titles = [re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in _headings(path)]
            assert anchor[1:] in titles, f"{page.name} links to {target}{anchor}"


def _headings(page: Path) -> list[str]:
    return re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
