"""recis train with tables in tiers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from recis_core.cli.cache import combined
from recis_core.framework import Trainer
from tests.cli.test_train import TINY, lines, run

TIERS = ["--cache-device-rows", "5%", "--cache-host-rows", "20%"]


def test_the_same_tables_as_without(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    *_, plain = lines(capsys, *TINY)
    disk = ["--cache-disk", str(tmp_path / "disk")]
    for more in ([], ["--prefetch", "4"], ["--prefetch", "2", "--cache-policy", "lru"]):
        *logged, final = lines(capsys, *TINY, *TIERS, *disk, *more, "--log-every", "2")
        assert final["tables_sha256"] == plain["tables_sha256"]
        assert final["auc"] == plain["auc"]
        assert final["cache"]["hits_disk"] > 0
        assert final["cache"]["written_to_disk"] > 0
        assert all(0 <= line["cache"]["hit_rate"] <= 1 for line in logged)
        assert list((tmp_path / "disk").iterdir()) == []


@pytest.mark.parametrize("hooks", [["--admit", "frequency(2)"], ["--evict", "lru(3)", "--evict-every", "2"]])
def test_hooks_choose_the_same_rows_in_tiers(capsys: pytest.CaptureFixture[str], hooks: list[str]) -> None:
    *_, plain = lines(capsys, *TINY, *hooks)
    *_, final = lines(capsys, *TINY, *hooks, *TIERS[:2])
    assert final["tables_sha256"] == plain["tables_sha256"]


def test_training_beside_a_prefetcher_takes_the_threads_it_is_given(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, step = [], Trainer.train_on

    def spied(*args: Any) -> Any:
        seen.append(torch.get_num_threads())
        return step(*args)

    monkeypatch.setattr(Trainer, "train_on", spied)
    for more, want in (["--prefetch-threads", "1"], 1), ([], torch.get_num_threads()):
        seen.clear()
        lines(capsys, *TINY, *TIERS[:2], "--prefetch", "2", *more)
        assert set(seen) == {want}


def test_saved_states_go_on_in_tiers_and_out_of_them(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    *_, whole = lines(capsys, *TINY, "--epochs", "2")
    first, second = str(tmp_path / "a"), str(tmp_path / "b")
    disk = ["--cache-disk", str(tmp_path / "disk")]
    lines(capsys, *TINY, "--steps", "3", "--save", first)
    lines(capsys, *TINY, *TIERS, *disk, "--steps", "5", "--resume", first, "--save", second, "--prefetch", "3")
    *_, final = lines(capsys, *TINY, "--epochs", "2", "--resume", second)
    assert final["tables_sha256"] == whole["tables_sha256"]


def test_bytes_are_shared_by_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    *_, plain = lines(capsys, *TINY, "--epochs", "3")
    *_, final = lines(capsys, *TINY, "--epochs", "3", "--cache-device-bytes", "40kB")
    assert final["tables_sha256"] == plain["tables_sha256"]
    assert 0 < final["cache"]["device_rows"] < plain["table_rows"]


def test_the_index_of_the_disk_within_bytes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cached = {}
    for size in ("0", "64MiB"):
        index = ["--cache-disk", str(tmp_path / "disk"), "--cache-disk-index-bytes", size]
        *_, cached[size] = lines(capsys, *TINY, *TIERS, *index)
    assert cached["0"]["tables_sha256"] == cached["64MiB"]["tables_sha256"]
    assert cached["0"]["cache"]["disk_index_disk_bytes"] > 0
    assert cached["64MiB"]["cache"]["disk_index_disk_bytes"] == 0


def test_tensorboard_has_loss_and_cache(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lines(capsys, *TINY, *TIERS, "--cache-disk", str(tmp_path / "disk"), "--tensorboard", str(tmp_path / "board"))
    events = b"".join(path.read_bytes() for path in (tmp_path / "board").iterdir())
    for tag in (b"train/loss", b"train/auc", b"cache/hit_rate", b"cache/bytes_from_disk", b"test/auc"):
        assert tag in events


def test_the_bar_tells_of_the_cache(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, out, err = run(capsys, *TINY, *TIERS, "--cache-disk", str(tmp_path / "disk"))
    assert status == 0, err
    assert "on device" in out


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--cache-device-bytes 10", "--cache-device-bytes must hold at least one row"),
        ("--cache-device-rows 2 --cache-host-rows 2", "Raise it, or give --cache-disk DIR"),
        (
            "--cache-device-rows 200 --cache-policy none",
            "--cache-policy 'none' lets none leave. Raise --cache-device-bytes",
        ),
    ],
)
def test_what_the_tables_are_too_large_for_is_told_in_flags(
    capsys: pytest.CaptureFixture[str], flags: str, said: str
) -> None:
    status, _, err = run(capsys, *TINY, *flags.split(), "--json")
    assert status == 1
    assert said in err
    assert err.startswith("recis train: ")
    assert len(err.splitlines()) == 1


def test_a_disk_that_cannot_be_used_is_refused_before_training(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.touch()
    status, out, err = run(capsys, *TINY, *TIERS, "--cache-disk", str(file))
    assert (status, out) == (1, "")
    assert err == f"recis train: --cache-disk {file} cannot be written to: Not a directory. Name another directory.\n"


def test_what_the_system_refuses_is_told_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    status, _, err = run(capsys, *TINY, "--steps", "1", "--save", str(file / "states"))
    assert status == 1
    assert err.startswith(f"recis train: --save {file / 'states'} cannot be written to")
    assert "Not a directory. Name another directory." in err
    assert len(err.splitlines()) == 1


def test_counts_are_summed_and_of_rounding_the_largest_is_told() -> None:
    name = "disk_rounding_rms_millionths"
    assert combined([{"new": 3, name: 40}, {"new": 4, name: 30}]) == {"new": 7, name: 40}


def test_what_few_bits_cost_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    disk = ["--cache-disk", str(tmp_path / "disk")]
    *_, exact = lines(capsys, *TINY, *TIERS, *disk)
    *_, final = lines(capsys, *TINY, *TIERS, *disk, "--cache-precision", "same,int4")
    assert [exact["cache"][f"{tier}_rounding_rms_millionths"] for tier in ("host", "disk")] == [0, 0]
    assert final["cache"]["host_rounding_rms_millionths"] == 0
    assert 0 < final["cache"]["disk_rounding_rms_millionths"] < 1_000_000
