"""A wrong word on a command line: one line with the flag, what was wanted, what came and a hint; status 2."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from recis_core.cli import main
from recis_core.cli.config_value import plain_kind
from recis_core.cli.flags import flag, groups, keywords
from recis_core.cli.train_config import TrainConfig

RUN = ["train", "--preset", "tiny"]


def refused(capsys: Any, *argv: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(list(argv))
    out, err = capsys.readouterr()
    assert (stop.value.code, out, len(err.splitlines())) == (2, "", 1), err
    return str(err).rstrip("\n")


WRONG = [
    ([*RUN, "--dim", "x"], "recis train: --dim must be a whole number; got 'x'."),
    ([*RUN, "--dim", "1e5"], "recis train: --dim must be a whole number; got '1e5'. Did you mean 100000?"),
    ([*RUN, "--dim=8.0"], "recis train: --dim must be a whole number; got '8.0'. Did you mean 8?"),
    ([*RUN, "--batch-size", "4,096"], "--batch-size must be a whole number; got '4,096'. Did you mean 4096?"),
    ([*RUN, "--steps", "many"], "--steps must be a whole number, or None; got 'many'."),
    ([*RUN, "--lr", "0,01"], "--lr must be a number, or None; got '0,01'. Did you mean 0.01?"),
    ([*RUN, "--lr", "fast"], "--lr must be a number, or None; got 'fast'."),
    ([*RUN, "--dim"], "--dim must be followed by a whole number; got nothing."),
    ([*RUN, "--save", "--overwrite"], "--save must be followed by text; got the next flag --overwrite."),
    ([*RUN, "--model", "DeepFN"], "--model must be one of deepfm, dlrm; got 'DeepFN'. Did you mean deepfm?"),
    ([*RUN, "--backend", "gpu"], "--backend must be one of auto, torch, numba, jax, pallas; got 'gpu'."),
    ([*RUN, "--json=yes"], "--json takes no value, and --no-json is its opposite; got 'yes'."),
    ([*RUN, "--json", "yes"], "'yes' belongs to no flag. --help lists all flags."),
    ([*RUN, "--dim", "4", "5"], "'5' belongs to no flag. --help lists all flags."),
    ([*RUN, "-dim", "4"], "'-dim' belongs to no flag. Did you mean --dim?"),
    ([*RUN, "--dim", "4", "conf.yaml"], "'conf.yaml' belongs to no flag. A config file goes before the flags."),
    ([*RUN, "--dimm", "4"], "there is no flag --dimm. Did you mean --dim?"),
    ([*RUN, "--no-dim"], "there is no flag --no-dim."),
    (["eval", "--state", "run"], "recis eval: --data must be given, text. --help says what it is."),
    (["plan", "m.yaml", "--world", "x"], "recis plan: --world must be a whole number; got 'x'."),
    (["plan", "m.yaml"], "recis plan: --world must be given, a whole number."),
    (["ckpt", "ls"], "recis ckpt ls: PATH must be given, text."),
    (["ckpt", "prune", "run", "--keep-last", "two"], "--keep-last must be a whole number, or None; got 'two'."),
    (["data", "convert", "a", "b", "c"], "recis data convert: 'c' belongs to no flag."),
    (["doctor", "--jsno"], "recis doctor: there is no flag --jsno. Did you mean --json?"),
]


@pytest.mark.parametrize(("argv", "said"), WRONG, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_a_wrong_word_is_told_in_one_line(capsys: Any, argv: list[str], said: str) -> None:
    assert said in refused(capsys, *argv)


def kinds() -> dict[str, Any]:
    """{keyword: (kind, whether None is one)} of every flag of recis train."""
    found = {}
    for kind in (TrainConfig, *groups(TrainConfig).values()):
        hints = get_type_hints(kind, include_extras=True)
        found |= {keyword: plain_kind(hints[name]) for name, keyword in keywords(kind).items()}
    return found


@pytest.mark.parametrize(("keyword", "kind"), [(name, kind) for name, (kind, _) in kinds().items()])
def test_every_flag_of_training_refuses_what_is_none_of_its_values(capsys: Any, keyword: str, kind: Any) -> None:
    """Whatever its kind; of text and lists, which take any words, what lacks."""
    name = flag(keyword)
    if kind is bool:
        assert f"{name} takes no value" in refused(capsys, *RUN, f"{name}=1")
    elif kind in (int, float):
        assert f"{name} must be a" in refused(capsys, *RUN, name, "nonsense")
    elif get_origin(kind) is Literal:
        assert f"{name} must be one of {', '.join(get_args(kind))}; got 'x'" in refused(capsys, *RUN, name, "x")
    elif kind is str:
        assert f"{name} must be followed by text; got nothing." in refused(capsys, *RUN, name)
    else:
        assert kind == tuple[str, ...]
