"""recis train CONFIG.yaml: groups or flags, flags of the command line win, --print-config comes back, mistakes name the line."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from recis_core.cli import main, torchrun
from recis_core.cli.config import read_config, ways
from recis_core.cli.config_file import read_config_file
from recis_core.cli.eval import EvalConfig
from recis_core.cli.field_docs import field_docs
from recis_core.cli.flags import by_flag, flag, groups
from recis_core.cli.predict import PredictConfig
from recis_core.cli.train_config import TrainConfig
from tests.cli.clicks import TRAIN, last


def written(folder: Path, text: str | bytes) -> str:
    path = folder / "conf.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def read(folder: Path, text: str, *argv: str) -> TrainConfig:
    return read_config(TrainConfig, [written(folder, text), *argv], "recis train")


def test_groups_flags_and_the_command_line(tmp_path: Path) -> None:
    text = "batch-size: 300\nlr: 1e-2\ndata: {preset: tiny, rows: 3000}\ncache: {device_rows: 50%, cache_policy: lru}\nlog:\n"
    config = read(tmp_path, text, "--lr", "0.5", "--cache-policy", "lfu")
    assert config == TrainConfig(
        preset="tiny", rows=3000, batch_size=300, lr=0.5, cache_device_rows="50%", cache_policy="lfu"
    )
    assert read(tmp_path, text, "--cache-device-rows", "None", "--cache-policy", "None").cache.device_rows is None
    assert read(tmp_path, "model: dlrm\nprefetch: 2\ndata: {preset: tiny}").model.name == "dlrm", (
        "a group's name is a flag, too"
    )
    assert read(tmp_path, "json: true\npreset: tiny", "--no-json").log.json is False


def test_flags_may_complete_what_a_file_leaves_open(tmp_path: Path) -> None:
    """Neither is a config by itself."""
    config = read(tmp_path, "label: click\nsave_every: 5", "--data", "x", "--save", "run")
    assert (config.data.files, config.checkpoint.every) == ("x", 5)


@pytest.mark.parametrize(
    ("text", "keyword", "value"),
    [
        ("label: no", "label", "no"),
        ("label: 010", "label", "010"),
        ("label: 2026-01-02", "label", "2026-01-02"),
        ("label: 'null'", "label", "null"),
        ("label: None", "label", "None"),
        ("label: -dash", "label", "-dash"),
        ("label: click\ntruth: null", "truth", None),
        ("label: click\ntruth: ~", "truth", None),
        ("label: click\ntruth:", "truth", None),
        ("label: click\nlr: 1e-3", "lr", 0.001),
        ("label: click\nlr: .5", "lr", 0.5),
        ("label: click\nlr: 1", "lr", 1.0),
        ("label: click\ncache: {device_rows: 1e5}", "cache_device_rows", "1e5"),
        ("label: click\ncache_device_rows: 100000", "cache_device_rows", "100000"),
        ("label: click\njson: on", "json", True),
        ("label: click\njson: No", "json", False),
        ("label: click\nseed: -3", "seed", -3),
        ("label: click\nskip: [yes, 1.50, '~', a b]", "skip", ("yes", "1.50", "~", "a b")),
        ("label: click\nskip:\n- a\n- b", "skip", ("a", "b")),
        ("\ufefflabel: ключ", "label", "ключ"),
    ],
)
def test_a_value_is_what_its_flag_takes(tmp_path: Path, text: str, keyword: str, value: Any) -> None:
    """Whatever YAML 1.1 makes of the text."""
    found = read_config_file(written(tmp_path, text), TrainConfig)[ways(TrainConfig)[keyword]].value
    assert (found, type(found)) == (value, type(value))


WRONG = [
    ("batch_sise: 3", 1, "there is no key 'batch_sise'. Did you mean batch_size?"),
    ("seed: 1\nsave-evry: 3", 2, "there is no key 'save-evry'. Did you mean save_every?"),
    ("checkpoint:\n  save_evry: 3", 2, "group checkpoint has no key 'save_evry'. Did you mean save_every?"),
    ("cache:\n  device_row: 3", 2, "group cache has no key 'device_row'. Did you mean device_rows?"),
    ("device_rows: 3", 1, "there is no key 'device_rows'. Did you mean device_rows of group cache?"),
    ("cache: {batch_size: 3}", 1, "group cache has no key 'batch_size'. batch_size belongs outside of the group."),
    ("cache: {policies: 3, disk: d}", 1, "group cache has no key 'policies'. Did you mean policy?"),
    ("zzz: 3", 1, "there is no key 'zzz'. Keys are data, model, optimizer, hooks, cache,"),
    ("seed: 1\nbatch_size: ten", 2, "batch_size must be a whole number; got 'ten'."),
    ("batch_size: 1e3", 1, "batch_size must be a whole number; got '1e3'."),
    ("batch_size: 010", 1, "batch_size must be a whole number; got '010'."),
    ("batch_size: 0", 1, "batch_size must be greater than or equal to 1; got '0'."),
    ("batch_size:", 1, "batch_size must be a whole number; got null."),
    ("seed: 1:30", 1, "seed must be a whole number; got '1:30'."),
    ("lr: fast", 1, "lr must be a number; got 'fast'."),
    ("lr: nan", 1, "lr must be "),
    ("log: {json: maybe}", 1, "log.json must be true or false; got 'maybe'."),
    ("model: {name: foo}", 1, "model.name must be 'deepfm' or 'dlrm'; got 'foo'."),
    ("label: [a]", 1, "label must be text; got a list of 1."),
    ("label: {a: 1}", 1, "label must be text; got a map of a."),
    ("label: !secret x", 1, "label must be a value without a tag; got !secret 'x'."),
    ("columns: a", 1, "columns must be a list such as [first, second]; got 'a'."),
    ("columns: [a, [b]]", 1, "columns must be text; got a list of 1."),
    ("columns: &x [*x]", 1, "columns must be text; got a list of 1."),
    ("cache: 3", 1, "cache must be a map of device_rows, device_bytes,"),
    ("cache: [device_rows]", 1, "cache must be a map of device_rows, device_bytes,"),
    ("seed: 1\n\nseed: 2", 3, "'seed' is given twice, first in line 1."),
    ("cache_disk: d\ncache: {disk: e}", 2, "cache.disk is given twice, first in line 1."),
    ("batch-size: 3\nbatch_size: 3", 2, "batch_size is given twice, first in line 1."),
    ("[1, 2]", 1, "it must map groups or flags to values, and --print-config shows one that does; got a list."),
    ("just text", 1, "it must map groups or flags to values,"),
    ("? [a]\n: 3", 1, "a key must be text; got a list or a map."),
    ("<<: {seed: 3}", 1, "there is no key '<<'."),
    ("a: b: c", 1, "mapping values are not allowed here."),
    ("data:\n\tpreset: tiny", 2, r"found character '\t' that cannot start any token. YAML is indented by spaces."),
    ("seed: 1\n---\nseed: 2", 2, "expected a single document in the stream, but found another document."),
    ("label: *x", 1, "found undefined alias 'x'."),
    # What several flags say together, as on the command line, with the line of the first that the file gives.
    ("seed: 3\npreset: tiny\ndata: x", 2, "give --preset NAME or --data GLOB, one of the two."),
    ("preset: tiny\n\nprefetch_threads: 3", 3, "--prefetch-threads needs --prefetch L"),
    ("preset: tiny\ncache:\n  disk: d", 3, "--cache-disk needs --cache-device-rows or --cache-device-bytes"),
]


@pytest.mark.parametrize(("text", "line", "said"), WRONG)
def test_a_mistake_is_told_in_one_line(capsys: Any, tmp_path: Path, text: str, line: int, said: str) -> None:
    path = written(tmp_path, text)
    err = refused(capsys, "train", path)
    assert err.startswith(f"recis train: {path}, line {line}: ")
    assert said in err


def refused(capsys: Any, *argv: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(list(argv))
    said = capsys.readouterr()
    assert (stop.value.code, said.out, len(said.err.splitlines())) == (2, "", 1), said.err
    return str(said.err)


def test_files_that_are_none(capsys: Any, tmp_path: Path) -> None:
    assert "conf.yaml is empty; it must map groups or flags" in refused(
        capsys, "train", written(tmp_path, "# only this\n")
    )
    latin = refused(capsys, "train", written(tmp_path, b"seed: 1\nlabel: k\xe9y"))
    assert "conf.yaml, line 2: the file must be UTF-8; byte 0xe9 is not." in latin
    assert "none.yaml cannot be read: there is no such file." in refused(capsys, "train", str(tmp_path / "none.yaml"))
    assert "cannot be read: Is a directory." in refused(capsys, "train", str(tmp_path))
    (tmp_path / "rows.parquet").write_bytes(b"PAR1\xcc")
    for command, said in (("train", "by --data."), ("eval", "by --data, a saved run by --state.")):
        for word in (tmp_path / "rows.parquet", tmp_path):
            assert f"files of rows are given {said}" in refused(capsys, command, str(word))
    deep = refused(capsys, "train", written(tmp_path, "a: " + "[" * 2000))
    assert "conf.yaml" in deep
    two = refused(capsys, "train", "a.yaml", "b.yaml")
    assert "one config file goes before the flags; got a.yaml and b.yaml." in two


def test_a_flag_that_is_none(capsys: Any, tmp_path: Path) -> None:
    """Its own line, and no other's: nothing of the file is meant."""
    path = written(tmp_path, "preset: tiny")
    assert refused(capsys, "train", path, "--batch-sise=3") == (
        "recis train: there is no flag --batch-sise. Did you mean --batch-size?\n"
    )
    assert "there is no flag --zzz. --help lists all." in refused(capsys, "predict", "--zzz")
    said = refused(capsys, "train", path, "--lr", "-1")
    assert said == f"recis train: {path}: --lr should be greater than 0; got -1.0.\n"


# Each flag of recis train with a value that is not its default, in configs that are valid.
EVERY: list[dict[str, Any]] = [
    {
        "preset": "tiny", "rows": 3000, "test_fraction": 0.25, "batch_size": 7, "epochs": 3, "steps": 9, "backend": "torch",
        "seed": -4, "model": "dlrm", "dim": 8, "optimizer": "adagrad", "lr": 1e-7, "admit": "frequency(2)", "evict": "lru(1e6)",
        "evict_every": 3, "cache_device_rows": "1%", "cache_host_rows": "1000", "cache_disk": "d: #x",
        "cache_disk_index_bytes": "1GB", "cache_disk_mapped_bytes": "2GB", "cache_policy": "lru", "cache_precision": "bf16,int8",
        "prefetch": 2, "prefetch_threads": 3, "precision": "forward=int8,backward=topk(10%,int8)+ef", "sharding": "table:0",
        "save": "it's \"mine\"", "save_every": 4, "save_minutes": 2.5,
        "save_async": True, "save_deltas": 3, "keep": 2, "keep_every": 9,
        "keep_best": "auc:2", "overwrite": True, "resume": "null", "resume_if_any": True,
        "log_every": 3, "tensorboard": "1e3", "json": True, "metrics": ("ne", "auc,rmse"),
    },
    {
        "data": "файлы/*.parquet", "label": "no", "truth": "010", "columns": ("a", "~", "yes"), "skip": ("1.5", ""),
        "string_columns": ("a,b",), "id_columns": ("- c",), "dense_columns": ("[d]",),
        "time_units": ("a=day",), "nulls": ("a=error", "b: c=default(#1, 2)"), "weight_columns": ("a=w",),
        "test_data": " x ", "init_from": "None",
        "fresh_optimizer": True, "cache_device_bytes": "1e9", "cache_host_bytes": "2GiB",
    },
    {"data": "x", "label": "two\nlines\t", "features": "f.yaml"},
]  # fmt: skip


def test_what_is_printed_comes_back(capsys: Any, tmp_path: Path) -> None:
    """Of every flag, whatever its text."""
    usual = by_flag(TrainConfig(preset="tiny"))
    assert {name for each in EVERY for name in each} == set(usual)
    for values in EVERY:
        assert [name for name, value in values.items() if value == usual[name] and name != "preset"] == []
        config = TrainConfig(**values)
        path = written(tmp_path, yaml.safe_dump({n: list(v) if isinstance(v, tuple) else v for n, v in values.items()}))
        assert read_config(TrainConfig, [path], "recis train") == config
        printed = shown(capsys, "train", path, "--print-config")
        assert read_config(TrainConfig, [written(tmp_path, printed)], "recis train") == config
        assert shown(capsys, "train", written(tmp_path, printed), "--print-config") == printed


def shown(capsys: Any, *argv: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(list(argv))
    said = capsys.readouterr()
    assert (stop.value.code, said.err) == (0, "")
    return str(said.out)


def test_the_defaults_are_printed_and_read(capsys: Any, tmp_path: Path) -> None:
    """Without data, which flags then give; each flag has its help above it."""
    printed = shown(capsys, "train", "--print-config")
    path = written(tmp_path, printed)
    assert read_config(TrainConfig, [path, "--preset", "tiny"], "recis train") == TrainConfig(preset="tiny")
    tree = yaml.safe_load(printed)
    assert list(tree) == [*(w[0] for w in ways(TrainConfig).values() if len(w) == 1), *groups(TrainConfig)]
    assert tree["data"]["preset"] is None
    lines = printed.splitlines()
    for keyword in ways(TrainConfig):
        assert any(line.strip().startswith(f"# {flag(keyword)}: ") and len(line) > 30 for line in lines), keyword
    assert max(map(len, lines)) <= 110
    refusal = refused(capsys, "train", "--label", "click", "--print-config")
    assert "give --preset NAME or --data GLOB" in refusal


def test_every_field_has_its_help() -> None:
    for kind in (TrainConfig, *groups(TrainConfig).values(), EvalConfig, PredictConfig):
        own = [f.name for f in dataclasses.fields(kind) if f.name not in groups(kind)]
        assert [name for name in own if not field_docs(kind).get(name)] == []


def test_commands_of_saved_runs_take_a_file_too(capsys: Any, tmp_path: Path) -> None:
    path = written(tmp_path, "state: run\nout: s.parquet\nkeep-columns: [user]\n")
    config = read_config(PredictConfig, [path, "--data", "x"], "recis predict")
    assert config == PredictConfig(state="run", data="x", out="s.parquet", keep_columns=("user",))
    printed = shown(capsys, "predict", path, "--data", "x", "--print-config")
    assert read_config(PredictConfig, [written(tmp_path, printed)], "recis predict") == config
    assert "there is no key 'out'. Keys are state, data," in refused(capsys, "eval", written(tmp_path, "out: x"))


def test_ranks_tell_a_mistake_once(capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchrun, "first_to_say", lambda text: False)
    with pytest.raises(SystemExit) as stop:
        read_config(TrainConfig, [written(tmp_path, "lrr: 3")], "recis train")
    assert (stop.value.code, capsys.readouterr().err) == (2, "")


@pytest.mark.full
def test_a_run_by_a_file_is_the_run_by_flags(capsys: Any, tmp_path: Path) -> None:
    flags = ["--preset", "tiny", "--rows", "2000", *TRAIN]
    printed = shown(capsys, "train", *flags, "--print-config")
    want = last(capsys, "train", *flags)
    assert last(capsys, "train", written(tmp_path, printed))["tables_sha256"] == want["tables_sha256"]
