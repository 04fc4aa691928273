"""recis plan, as a user types it."""

import json
from pathlib import Path

import pytest

from recis_core.options.plan_file import read_plan
from recis_core.options.sharding import Sharding
from tests.cli.test_train import run

MODELS = Path(__file__).parents[2] / "bench" / "models"
DLRM, TRILLION = str(MODELS / "dlrm-dcnv2.yaml"), str(MODELS / "trillion.yaml")


def test_tables_ranks_links_and_imbalance_are_shown(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    status, out, err = run(capsys, "plan", DLRM, "--world", "8", "--hbm", "80GB")
    assert (status, err) == (0, "")
    assert "dlrm-dcnv2: 26.1B parameters on 8 ranks" in out
    for shown in ("c26", "sharding", "unique", "0–7", "intra-node", "imbalance, fullest rank over mean: memory 1.0"):
        assert shown in out
    assert "communication of a step:" in out
    assert "…" not in out


def test_json_is_one_object(capsys):
    status, out, _ = run(capsys, "plan", TRILLION, "--world", "64", "--hbm", "80GB", "--json")
    assert status == 0
    plan = json.loads(out)
    assert plan["parameters"] == 10**12
    assert len(plan["ranks"]) == 64
    assert {"memory_bytes", "sent_bytes", "received_bytes"} <= set(plan["ranks"][0])
    assert {link["link"] for link in plan["links"]} == {"intra-node", "inter-node"}
    assert {"sharding", "unique_ids", "forward_bytes", "backward_bytes"} <= set(plan["tables"][0])
    assert plan["imbalance"]["traffic"] > 1


def test_out_is_what_training_reads(capsys, tmp_path):
    file = tmp_path / "plan.yaml"
    status, out, _ = run(capsys, "plan", TRILLION, "--world", "64", "--hbm", "80GB", "--out", str(file), "--json")
    assert status == 0
    want = {table["name"]: Sharding.parse(table["sharding"]) for table in json.loads(out)["tables"]}
    assert read_plan(file, world_size=64) == want
    assert file.read_text().startswith("# trillion: 1,000,000,000,000 parameters on 64 ranks of 80GB")


def test_a_model_that_does_not_fit(capsys, tmp_path):
    file = tmp_path / "plan.yaml"
    status, out, err = run(capsys, "plan", TRILLION, "--world", "8", "--hbm", "80GB", "--out", str(file))
    assert (status, out, file.exists()) == (1, "", False)
    assert "recis plan: trillion does not fit" in err
    assert "Way out: 40 ranks" in err


def test_mistakes_are_named(capsys, tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("batch_size: 8\ntables: [{name: a, rows: 0, dim: 4, features: [{pooling_factor: 1}]}]")
    cases = (
        ([str(bad), "--world", "8", "--hbm", "80GB"], "bad.yaml does not describe a model:\n  tables[0].rows: "),
        ([DLRM, "--world", "8", "--hbm", "80 gigs"], "--hbm: wanted a size such as 80GB"),
        ([str(tmp_path / "none.yaml"), "--world", "8", "--hbm", "80GB"], "there is no file"),
    )
    for argv, message in cases:
        status, _, err = run(capsys, "plan", *argv)
        assert status == 1
        assert message in err


@pytest.mark.parametrize("argv", [[], [DLRM], [DLRM, "--world", "0", "--hbm", "80GB"], [DLRM, "--world", "8"]])
def test_arguments_that_do_not_fit_are_refused(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        run(capsys, "plan", *argv)
    assert stop.value.code == 2


def test_plan_is_in_the_help(capsys):
    assert "recis plan " in run(capsys, "--help")[1]
