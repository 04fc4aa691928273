"""Flags of commands: groups of a config, each beside its part, under flat names on the command line."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from recis_core.cli import main
from recis_core.cli.cache import CacheFlags
from recis_core.cli.eval import EvalConfig
from recis_core.cli.flags import by_flag, groups, keywords
from recis_core.cli.predict import PredictConfig
from recis_core.cli.train_config import TrainConfig

# What scripts give `recis train`, and saved states hold: none of these goes.
NAMES = [
    "admit", "backend", "batch_size", "cache_device_bytes", "cache_device_rows", "cache_disk",
    "cache_disk_index_bytes", "cache_disk_mapped_bytes", "cache_host_bytes", "cache_host_rows", "cache_policy",
    "cache_precision", "columns", "data", "dense_columns", "dim", "epochs", "evict", "evict_every", "features",
    "fresh_optimizer", "id_columns", "init_from", "json", "keep", "keep_best", "keep_every", "label", "log_every", "lr",
    "metrics", "model", "nulls",
    "optimizer", "overwrite", "precision", "prefetch", "prefetch_threads", "preset", "resume", "resume_if_any",
    "rows", "save", "save_async", "save_deltas", "save_every", "save_minutes", "seed",
    "sharding", "skip", "steps", "string_columns", "tensorboard",
    "test_data", "test_fraction", "time_units", "truth", "weight_columns",
]  # fmt: skip


def test_every_flag_stays() -> None:
    assert sorted(by_flag(TrainConfig(preset="tiny"))) == sorted(NAMES)


def test_a_group_owns_its_flags() -> None:
    config = TrainConfig(preset="tiny", cache_device_rows="1%", save="runs", save_every=5, precision="int8", dim=4)
    assert config.cache == CacheFlags(device_rows="1%")
    assert (config.checkpoint.directory, config.checkpoint.every) == ("runs", 5)
    assert (config.exchange.precision, config.model.dim) == ("int8", 4)
    grouped = TrainConfig(**{name: getattr(config, name) for name in groups(TrainConfig)})
    assert grouped == config == TrainConfig(**by_flag(config))
    assert dataclasses.replace(config, dim=8).model.dim == 8


def test_no_flag_is_of_two_groups() -> None:
    found = [keyword for kind in (TrainConfig, *groups(TrainConfig).values()) for keyword in keywords(kind).values()]
    assert sorted(found) == sorted(NAMES)


def test_an_unknown_flag_is_refused() -> None:
    with pytest.raises(TypeError, match="there is no flag --save-evry"):
        TrainConfig(preset="tiny", save_evry=3)


def test_commands_of_a_saved_run_share_their_flags() -> None:
    for kind, own in (
        (EvalConfig, {"label", "truth", "metrics"}),
        (PredictConfig, {"out", "keep_columns", "score_column", "overwrite"}),
    ):
        assert set(keywords(kind)) - own == {"state", "data", "backend", "batch_size", "cache_disk", "json"}


WRONG: list[tuple[str, str]] = [
    ("", "give --preset NAME or --data GLOB, one of the two."),
    ("--preset huge", "--preset must be one of tiny, small, criteo-shape, drift, adversarial; got 'huge'."),
    ("--preset tiny --dim 0", "--dim should be greater than or equal to 1; got 0."),
    ("--preset tiny --lr nan", "--lr should be a finite number; got nan."),
    ("--preset tiny --save-every 0 --save d", "--save-every should be greater than or equal to 1; got 0."),
    ("--preset tiny --prefetch-threads 1", "--prefetch-threads needs --prefetch L"),
    ("--preset tiny --precision int5", "--precision int5: a codec is one of fp32, bf16,"),
    ("--preset tiny --sharding columns", "--sharding must read row, row+hot(1000), table:3, column or replicated; got"),
    ("--preset tiny --evict oldest(3)", "--evict must read step(filter_step), lru(max_rows), lfu(max_rows),"),
    ("--preset tiny --evict lru(0)", "--evict lru(0): max_rows must be "),
    ("--preset tiny --admit frequency(0)", "--admit frequency(0): threshold must be 1 to 65,535 occurrences; got 0."),
]
CACHE = [
    ("--cache-disk d", "--cache-disk needs --cache-device-rows"),
    ("--cache-precision bf16", "--cache-precision needs --cache-device-rows"),
    ("--cache-device-rows 5% --cache-device-bytes 1MB", "give --cache-device-bytes or --cache-device-rows, not both"),
    ("--cache-device-rows 150%", "--cache-device-rows must be a share above 0% and up to 100% of all rows"),
    ("--cache-device-rows 0%", "--cache-device-rows must be a share above 0% and up to 100% of all rows"),
    ("--cache-device-rows 0", "--cache-device-rows must be at least 1; got 0"),
    ("--cache-device-rows 1.5", "--cache-device-rows must be a count such as 100000 or 40M, or a share of each"),
    ("--cache-device-rows x", "table's rows as 1%; got 'x'"),
    ("--cache-device-bytes 5%", "got '5%'. A share of each table's rows is --cache-device-rows 5%."),
    ("--cache-device-rows 5% --cache-host-bytes x", "--cache-host-bytes must be a size such as 512MB"),
    ("--cache-device-rows 5% --cache-disk d", "--cache-disk DIR needs --cache-host-bytes or --cache-host-rows"),
    ("--cache-device-rows 5% --cache-disk-index-bytes 1GB", "--cache-disk-index-bytes needs --cache-disk DIR"),
    ("--cache-device-rows 5% --cache-disk-mapped-bytes 1GB", "--cache-disk-mapped-bytes needs --cache-disk DIR"),
    ("--cache-device-rows 5% --cache-policy lfu(2)", "--cache-policy 'lfu(2)': decay must be between 0 and 1"),
    ("--cache-device-rows 5% --cache-policy mru", "--cache-policy must be one of lru, lfu(decay)"),
    ("--cache-device-rows 5% --cache-precision bf16,", "one precision, or two by comma as bf16,int8"),
    ("--cache-device-rows 5% --cache-precision bf8", "--cache-precision must be of same, bf16"),
    ("--cache-device-rows 5% --cache-precision bf16,int8", "--cache-precision bf16,int8 needs --cache-disk DIR"),
]


@pytest.mark.parametrize(("flags", "said"), WRONG + [(f"--preset tiny {flags}", said) for flags, said in CACHE])
def test_a_wrong_flag_is_told_in_one_line(capsys: Any, flags: str, said: str) -> None:
    """At once, with what is wanted and what came; status 2."""
    with pytest.raises(SystemExit) as stop:
        main(["train", *flags.split()])
    err = capsys.readouterr().err
    assert stop.value.code == 2
    assert err.startswith("recis train: ")
    assert said in err
    assert len(err.splitlines()) == 1


def test_help_has_every_flag_under_its_flat_name(capsys: Any) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", "--help"])
    out = capsys.readouterr().out
    assert stop.value.code == 0
    assert [name for name in NAMES if f"--{name.replace('_', '-')}" not in out] == []
