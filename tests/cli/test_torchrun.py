"""Several processes train what one does: the same rows, the same AUC, one report."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from recis_core.cli.report import SilentReport
from recis_core.cli.train import train
from recis_core.cli.train_config import TrainConfig
from tests.cli.torchrun import last_line, saved_rows, sha256_of, torchrun
from tests.exchange.models import assert_same_tables
from tests.exchange.ranks import run_ranks
from tests.parity.click_log import click_log

TINY = {"preset": "tiny", "rows": 3000, "batch_size": 500, "dim": 4, "lr": 0.01, "epochs": 2}
SMALL = {"preset": "small", "rows": 8000, "batch_size": 1000, "dim": 8, "lr": 3e-3}


def flags(settings: dict[str, Any]) -> list[str]:
    return [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def trained(rank: int, world: int, settings: dict[str, Any]) -> dict[str, Any]:
    """recis train as one of the ranks there are already."""
    return train(TrainConfig(**settings), SilentReport())


def alone(settings: dict[str, Any]) -> dict[str, Any]:
    """What one process comes to, which every number of ranks is held against: trained once."""
    return _alone(tuple(settings.items()))


@cache
def _alone(settings: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    return run_ranks(1, trained, dict(settings))[0]


def trained_in_turn(rank: int, world: int, runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {name: trained(rank, world, settings) for name, settings in runs.items()}


def mistaken(rank: int, world: int, mistakes: list[dict[str, Any]]) -> list[str]:
    """What each of these raises."""
    said = []
    for settings in mistakes:
        try:
            said.append(str(trained(rank, world, settings)))
        except (ValueError, FileNotFoundError) as error:
            said.append(str(error))
    return said


def same_quality(got: dict[str, Any], want: dict[str, Any], within: float = 1e-3) -> None:
    assert got["auc"] == pytest.approx(want["auc"], abs=within)
    for key in ("rows", "steps", "table_rows", "bayes_auc"):
        assert got[key] == want[key], key


def test_two_processes_train_the_tables_of_one(tmp_path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    want = run_ranks(1, trained, {**TINY, "save": str(one)})[0]
    done = torchrun(2, "train", *flags({**TINY, "save": two, "log_every": 2}), "--json")
    got = last_line(done)
    assert "Warning" not in done.stderr, done.stderr
    same_quality(got, want)
    assert got["logloss"] == pytest.approx(want["logloss"], rel=1e-5)
    assert (want["world_size"], want["exchange"]) == (1, {})
    assert (got["world_size"], got["precision"], got["sharding"]) == (2, "fp32", "row")
    assert all(got["exchange"][kind] > 0 for kind in ("ids", "rows", "gradients"))
    logged = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"step"')]
    assert [line["step"] for line in logged] == [2, 4, 6, 8, 10, 12]
    rows = saved_rows(two)
    assert_same_tables(rows, saved_rows(one))
    widths = {name: [1] * 3 if name.endswith(":linear") else [4] * 3 for name in rows}
    assert got["tables_sha256"] == sha256_of(rows, widths)
    assert want["tables_sha256"] == sha256_of(saved_rows(one), widths)
    assert sorted(p.name.split(".")[0] for p in two.iterdir()) == ["step-00000012"]


@pytest.mark.parametrize("world", [pytest.param(w, marks=[] if w == 3 else pytest.mark.full) for w in (1, 2, 3, 4)])
@pytest.mark.parametrize("model", ["deepfm", pytest.param("dlrm", marks=pytest.mark.full)])
def test_small_as_one_process(world: int, model: str) -> None:
    settings = {**SMALL, "model": model}
    ranks = run_ranks(world, trained, settings)
    same_quality(ranks[0], alone(settings))
    assert [r["auc"] for r in ranks] == [ranks[0]["auc"]] * world


@pytest.mark.full
@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_small_at_length(world: int) -> None:
    settings = {**SMALL, "rows": 100_000, "batch_size": 2048}
    same_quality(last_line(torchrun(world, "train", *flags(settings), "--json")), alone(settings))


@pytest.mark.parametrize("world", [2, *(pytest.param(w, marks=pytest.mark.full) for w in (1, 3, 4))])
def test_the_click_log_as_one_process(world: int) -> None:
    settings = {"data": click_log(), "label": "label", "lr": 3e-3}
    same_quality(last_line(torchrun(world, "train", *flags(settings), "--json")), alone(settings))


def test_a_plan_and_a_precision(tmp_path) -> None:
    """Placement changes no row; gradients in 8 bits with error feedback change the AUC by little."""
    plan = tmp_path / "plan.yaml"
    plan.write_text("user: {sharding: table, owner: 1}\nitem: {sharding: replicated}\n'item:linear': row\n")
    few = {**TINY, "precision": "forward=bf16,backward=int8+ef"}
    more = {name: {**TINY, "sharding": text} for name, text in (("planned", str(plan)), ("replicated", "replicated"))}
    saving = {name: {**settings, "save": str(tmp_path / name)} for name, settings in more.items()}
    ends = run_ranks(2, trained_in_turn, {**saving, "few": few})[0]
    ends["one"] = run_ranks(1, trained, {**TINY, "save": str(tmp_path / "one")})[0]
    want = saved_rows(tmp_path / "one")
    for name in ("planned", "replicated"):
        assert_same_tables(saved_rows(tmp_path / name), want)
        same_quality(ends[name], ends["one"])
    assert ends["planned"]["sharding"] == {"user": "table:1", "item": "replicated", "item:linear": "row"}
    assert ends["few"]["precision"] == "forward=bf16,backward=int8+ef"
    same_quality(ends["few"], ends["one"], 0.01)
    assert ends["few"]["exchange"]["gradients"] < ends["planned"]["exchange"]["gradients"]


def test_mistakes_are_named_and_end_the_run(tmp_path) -> None:
    (tmp_path / "plan.yaml").write_text("nobody: row\n")
    cases = (
        ({"sharding": str(tmp_path / "plan.yaml")}, "the plan names tables ['nobody']"),
        ({"sharding": "table:2"}, "owner 2 is none of 2 ranks"),
        ({"precision": "int5"}, "a codec is one of"),
        ({"resume": str(tmp_path)}, "holds no saved state"),
    )
    for said in run_ranks(2, mistaken, [{**TINY, **more} for more, _ in cases]):
        for (_, message), heard in zip(cases, said, strict=True):
            assert message in heard


@pytest.mark.parametrize("model", ["deepfm", "dlrm"])
def test_three_processes_resume_bit_for_bit(tmp_path, model: str) -> None:
    """From three on, a sum of dense gradients depends on their order: on where DDP lays them, before and after."""
    settings = {**TINY, "model": model}
    whole = {**settings, "save": str(tmp_path), "save_every": 3}
    jobs = {"whole": whole, **{str(n): {**settings, "resume": f"{tmp_path}/step-{n:08d}"} for n in (3, 9)}}
    ends = run_ranks(3, trained_in_turn, jobs)[0]
    assert ends["3"]["tables_sha256"] == ends["9"]["tables_sha256"] == ends["whole"]["tables_sha256"]
