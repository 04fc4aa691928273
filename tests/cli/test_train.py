"""recis train, doctor and data, as a user types them."""

import json
import math

import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet
import pytest

from recis_core.cli import main

TINY = ["train", "--preset", "tiny", "--rows", "3000", "--batch-size", "500", "--dim", "4", "--lr", "0.01"]


def run(capsys, *argv):
    status = main(list(argv))
    out = capsys.readouterr()
    return status, out.out, out.err


def write(capsys, preset_rows, file):
    status, out, _ = run(capsys, "data", "synth", "--preset", "tiny", "--rows", preset_rows, "--out", str(file))
    assert status == 0
    assert str(file) in out


def lines(capsys, *argv):
    status, out, err = run(capsys, *argv, "--json")
    assert status == 0, err
    return [json.loads(line) for line in out.splitlines()]


def test_json_lines(capsys):
    *logged, final = lines(capsys, *TINY, "--log-every", "2", "--backend", "numba")
    assert [line["step"] for line in logged] == [2, 4, 6]
    assert all(set(line) == {"step", "loss", "auc", "rows_per_s"} for line in logged)
    assert final["final"] is True
    assert final["backend"] == "numba"
    assert 0.4 < final["auc"] < final["bayes_auc"] < 1
    assert final["logloss"] > final["bayes_logloss"] > 0
    assert final["rows_per_s"] > 0
    assert len(final["tables_sha256"]) == 64


def test_the_last_line_shows_the_gap(capsys):
    status, out, _ = run(capsys, *TINY, "--backend", "torch")
    assert status == 0
    last = out.strip().splitlines()[-1].split()
    assert (last[0], last[1], last[3], last[4], last[6]) == ("test", "AUC", "Bayes", "AUC", "gap")
    assert float(last[7]) == pytest.approx(float(last[5]) - float(last[2]), abs=2e-4)


def test_the_same_seed_gives_the_same_tables(capsys, backend):
    args = [*TINY, "--backend", backend, "--steps", "2", *(["--model", "dlrm"] if backend == "torch" else [])]
    one, two = (lines(capsys, *args)[-1]["tables_sha256"] for _ in range(2))
    assert one == two
    if backend == "numba":
        assert lines(capsys, *args, "--seed", "1")[-1]["tables_sha256"] != one


def test_saving_and_resuming_end_where_one_run_does(capsys, tmp_path):
    args = [*TINY, "--epochs", "2", "--backend", "numba"]
    whole = lines(capsys, *args)[-1]
    lines(capsys, *args, "--steps", "8", "--save", str(tmp_path), "--save-every", "3")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000003", "step-00000006", "step-00000008"]
    for start in (tmp_path, tmp_path / "step-00000003"):
        resumed = lines(capsys, *args, "--resume", str(start))[-1]
        assert {k: resumed[k] for k in ("auc", "tables_sha256", "steps")} == {
            k: whole[k] for k in ("auc", "tables_sha256", "steps")
        }
    status, _, err = run(capsys, *TINY, "--resume", str(tmp_path), "--dim", "8")
    assert status == 1
    assert "the saved run had --dim 4; this one has 8" in err


def test_resuming_takes_the_learning_rate_that_is_given_or_else_the_saved_one(capsys, tmp_path):
    """As if the rest had been trained with it from the state on."""
    args = [*TINY[:-2], "--epochs", "2", "--backend", "numba"]
    lines(capsys, *args, "--steps", "4", "--lr", "0.01", "--save", str(tmp_path))
    none, same, other = (
        lines(capsys, *args, "--steps", "6", "--resume", str(tmp_path), *lr)[-1]["tables_sha256"]
        for lr in ([], ["--lr", "0.01"], ["--lr", "0.5"])
    )
    assert none == same != other


def test_a_damaged_state_ends_the_command_in_one_line(capsys, tmp_path):
    args = [*TINY, "--backend", "numba"]
    lines(capsys, *args, "--steps", "2", "--save", str(tmp_path), "--save-every", "1")
    manifest = tmp_path / "step-00000002" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("0.01", "0.03"))
    for more in ([], ["--resume-if-any"]):
        status, _, err = run(capsys, *args, "--resume", str(tmp_path), *more)
        assert status == 1
        assert err.startswith(f"recis train: {manifest} cannot be read: it is damaged")
        assert f"name an older one ({tmp_path / 'step-00000001'})" in err
    assert run(capsys, *args, "--resume", str(tmp_path / "step-00000001"), "--steps", "2")[0] == 0


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "adamwtf", "adagrad", "rowwise_adagrad"])
def test_every_optimizer_trains(capsys, optimizer):
    final = lines(capsys, *TINY, "--optimizer", optimizer, "--backend", "torch", "--steps", "3")[-1]
    assert math.isfinite(final["logloss"])


@pytest.mark.parametrize("suffix", ["parquet", "orc"])
def test_written_logs_train_as_the_preset_does(capsys, tmp_path, suffix):
    file = tmp_path / f"clicks.{suffix}"
    write(capsys, "3000", file)
    from_file = lines(
        capsys, "train", "--data", str(file), "--label", "label", "--truth", "p", *TINY[5:], "--backend", "numba"
    )[-1]
    from_preset = lines(capsys, *TINY, "--backend", "numba")[-1]
    for key in ("auc", "bayes_auc", "tables_sha256"):
        assert from_file[key] == from_preset[key]


def test_test_data_of_its_own(capsys, tmp_path):
    for name in "ab":
        write(capsys, "1000", tmp_path / f"{name}.parquet")
    args = ["train", "--data", f"{tmp_path}/a.parquet", "--test-data", f"{tmp_path}/b.parquet", "--label", "label"]
    assert lines(capsys, *args, "--backend", "torch")[-1]["rows"] == 1000


def test_mistakes_are_named(capsys, tmp_path):
    file = tmp_path / "f.parquet"
    pyarrow.parquet.write_table(pa.table({"y": [0.0, 2.0] * 5, "i": list(range(10)), "s": [["a"]] * 10}), file)
    good = tmp_path / "g.parquet"
    pyarrow.parquet.write_table(pa.table({"y": [0.0, 2.0] * 5, "i": list(range(10))}), good)
    cases = (
        (["--data", str(file), "--label", "label"], "has no column 'label' for --label; it has y, i, s"),
        (["--data", str(good), "--label", "y"], f"{good}, column 'y', row 1 (the first is 0): must be 0 or 1; got 2."),
        (["--data", str(tmp_path / "*.orc"), "--label", "y"], "*.orc"),
        (["--preset", "tiny", "--resume", str(tmp_path)], "holds no saved state"),
    )
    for argv, message in cases:
        status, _, err = run(capsys, "train", *argv, "--backend", "torch")
        assert status == 1
        assert message in err
    assert run(capsys, "fly")[0] == 2
    assert run(capsys, "data", "fly")[0] == 2


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--preset", "tiny", "--data", "x"],
        ["--data", "x"],
        ["--preset", "tiny", "--dim", "0"],
        ["--backend", "gpu"],
        *(["--preset", "tiny", "--lr", lr] for lr in ("nan", "inf", "-1", "0")),
    ],
)
def test_arguments_that_do_not_fit_are_refused(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", *argv])
    assert stop.value.code == 2


def test_doctor(capsys):
    status, out, _ = run(capsys, "doctor", "--json")
    report = json.loads(out)
    assert status == 0
    assert report["backends"]["torch"] == "runs here"
    assert set(report["backends"]) == {"torch", "numba", "jax", "pallas"}
    assert report["auto"] in report["backends"]
    assert report["packages"]["torch"][0] == "2"
    assert run(capsys, "doctor")[0] == 0


def test_help(capsys):
    assert run(capsys, "--help")[1].startswith("usage: recis")
    assert "recis data synth" in run(capsys, "data", "--help")[1]


def test_admission_and_eviction(capsys):
    """Fewer rows than without, and the last line says why."""
    args = [*TINY, "--backend", "numba"]
    plain = lines(capsys, *args)[-1]
    final = lines(capsys, *args, "--admit", "frequency(3)", "--evict", "lru(20)", "--evict-every", "2")[-1]
    assert plain["hooks"] == {}
    assert final["table_rows"] < plain["table_rows"]
    hooks = final["hooks"]
    assert hooks["admitted"] - hooks["evicted_by_lru"] == final["table_rows"]
    assert hooks["rejected"] > 0
    assert 0.4 < final["auc"] < 1
