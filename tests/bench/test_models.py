"""The table of models' figures is that of the records, and each goal is judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recis_core.bench.quality import records, run, table
from recis_core.bench.quality.case import Case, Trained
from recis_core.bench.quality.cases import CASES


def test_the_page_has_the_table_of_the_records() -> None:
    assert table.committed() == table.text(records.read())


def test_every_record_is_of_a_case_and_reached_its_goals() -> None:
    goals = {case.name: (dict(case.below_best), dict(case.below_peer)) for case in CASES}
    for each in records.read():
        assert (each["below_best"], each["below_peer"]) == goals[each["model"]]
    assert "**missed**" not in table.committed()


def made(auc: float) -> Case:
    return Case(
        name="Model", data="data", train=lambda seed: Trained(figures={"AUC": auc + seed / 100}, best={"AUC": 0.8}, seconds=1.5),
        peer=lambda seed: Trained(figures={"AUC": 0.75}, seconds=2), peer_name="a peer",
        below_best={"AUC": 0.1}, below_peer={"AUC": 0.01},
    )  # fmt: skip


def test_a_line_is_of_all_seeds() -> None:
    found = [records.record(made(0.75), seed) for seed in (0, 1)]
    line = table.text(found).splitlines()[-1]
    reached, goal = "0.7550 ± 0.0050", "truth − 0.1, peer − 0.01: reached"
    assert line == f"| Model | data | AUC | {reached} | 0.8000 | a peer | 0.7500 | {goal} | 2 | 2 | 0, 1 |"


@pytest.mark.parametrize("auc", [0.69, 0.735])  # below the truth's bound; below the peer's
def test_a_missed_goal_is_said(auc: float) -> None:
    found = [records.record(made(auc), 0)]
    assert not table.reaches(found, "AUC")
    assert "**missed**" in table.text(found)


def test_a_models_new_records_replace_its_former_ones(tmp_path: Path) -> None:
    file, old, other = tmp_path / "out" / "records.jsonl", {"model": "A", "seed": 1, "x": 1}, {"model": "B", "seed": 0}
    records.keep([old, other], file)
    new: dict[str, Any] = {"model": "A", "seed": 0, "x": 2}
    records.keep([new], file)
    assert records.read(file) == [new, other]


def test_models_are_chosen_by_name() -> None:
    assert [case.name for case in run.chosen(("deepfm",))] == ["DeepFM"]
    assert run.chosen(()) == list(CASES)
    with pytest.raises(SystemExit, match="no model 'bert'; there are DeepFM, "):
        run.chosen(("bert",))


def test_a_case_needs_a_goal_and_a_whole_peer() -> None:
    train = made(0.7).train
    with pytest.raises(ValueError, match="M needs a goal"):
        Case(name="M", data="", train=train)
    with pytest.raises(ValueError, match="peer and peer_name together"):
        Case(name="M", data="", train=train, below_peer={"AUC": 0.1})
