"""Vocabulary: lists and files, ids of others, and files that are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recis_core.features import FeatureEngine, Vocabulary, vocabulary
from recis_core.ragged import RaggedTensor
from tests.features.columns import bits, feature, listed, rows, texts
from tests.features.test_ops import murmur

COLOURS = ["red", "green", "blue"]


@pytest.fixture(params=["loops", "torch"], autouse=True)
def implementation(request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECIS_BACKEND", "numba" if request.param == "loops" else "torch")


def test_positions() -> None:
    assert listed(Vocabulary(COLOURS)(texts(["green", "blue", ""], [], ["red", "reds"]))) == [[1, 2, 3], [], [0, 3]]
    assert listed(Vocabulary([7, -1, 1 << 62])(rows([-1, 7], [3]))) == [[1, 0], [2 + 1]]
    assert Vocabulary([7, 9], oov_buckets=0)(torch.tensor([[9, 1]])).tolist() == [[1, -1]]
    assert Vocabulary([], oov_buckets=2)(torch.tensor([4])).tolist() == [murmur([4]) % 2]


def test_buckets_of_others() -> None:
    ids = torch.tensor([3, -3, 7, 1 << 63 - 1])
    op = Vocabulary([7], oov_buckets=100)
    assert op(ids).tolist() == [0 if x == 7 else 1 + murmur([x]) % 100 for x in ids.tolist()]
    assert op.size == 101
    others = Vocabulary(COLOURS, oov_buckets=50)(texts([f"w{n}" for n in range(40)]))
    assert 3 <= min(listed(others)[0]) <= max(listed(others)[0]) < 53
    assert len(set(listed(others)[0])) > 15


def test_a_text_with_an_entrys_hash_is_no_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a hash that is the text's length."""

    def lengths(texts: list[RaggedTensor], kind: str) -> list[RaggedTensor]:
        return [RaggedTensor(text.lengths(), text.offsets()[0]) for text in texts]

    monkeypatch.setattr(vocabulary, "hashed_texts", lengths)
    monkeypatch.setattr(vocabulary, "text_keys", lambda texts: torch.tensor([len(text) for text in texts]))
    op = Vocabulary(["red", "green", ""], oov_buckets=0)
    assert listed(op(texts(["red", "rex", "green"], [], ["Green", "", "x"]))) == [[0, -1, 1], [], [-1, 2, -1]]
    assert listed(Vocabulary(["red"], oov_buckets=2)(texts(["rod", "red"]))) == [[1 + 3 % 2, 0]]


def test_many_entries() -> None:
    entries = torch.randperm(20_000, generator=torch.Generator().manual_seed(0)) * 2 - 20_000
    op = Vocabulary(entries.tolist())
    assert torch.equal(op(entries), torch.arange(20_000))
    assert (op(entries + 1) == 20_000).all()


def write_parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_files(tmp_path: Path) -> None:
    lines = tmp_path / "colours.txt"
    lines.write_text("red\ngreen\nblue\n")
    (tmp_path / "windows.txt").write_bytes(b"red\r\ngreen\r\nblue")
    (tmp_path / "ids.txt").write_text("7\n-1\n")
    write_parquet(tmp_path / "one.parquet", colour=COLOURS)
    write_parquet(
        tmp_path / "two.parquet",
        colour=pa.array(COLOURS).dictionary_encode(),
        n=pa.array([7, 2**64 - 1, 3], pa.uint64()),
    )
    named = {"two.parquet": "colour"}
    for name in ("colours.txt", "windows.txt", "one.parquet", "two.parquet"):
        op = Vocabulary(file=str(tmp_path / name), column=named.get(name))
        assert op.entries == tuple(COLOURS)
        assert op.arguments() == Vocabulary(COLOURS).arguments()
    assert Vocabulary(file=str(tmp_path / "ids.txt"), integers=True).entries == (7, -1)
    assert Vocabulary(file=str(tmp_path / "two.parquet"), column="n").entries == (7, -1, 3)


def test_a_path_leads_from_the_file_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conf" / "words").mkdir(parents=True)
    (tmp_path / "conf" / "words" / "colours.txt").write_text("red\ngreen\n")
    source = tmp_path / "conf" / "features.yaml"
    source.write_text("version: 1\nfeatures:\n  c: [{SelectField: colour}, {Vocabulary: {file: words/colours.txt}}]\n")
    monkeypatch.chdir(tmp_path)
    engine = FeatureEngine.from_yaml("conf/features.yaml")
    assert listed(engine({"colour": texts(["green"])})["c"]) == [[1]]
    engine.to_yaml(tmp_path / "other.yaml")
    assert "file: conf/words/colours.txt, content: " in (tmp_path / "other.yaml").read_text()
    assert FeatureEngine.from_yaml(tmp_path / "other.yaml").digest() == engine.digest()
    definition = engine.to_dict()
    (tmp_path / "conf" / "words" / "colours.txt").write_text("green\nred\n")
    with pytest.raises(
        ValueError, match=r"other.yaml: feature 'c', op 2, Vocabulary: the entries of .*colours.txt have changed"
    ):
        FeatureEngine.from_yaml(tmp_path / "other.yaml")
    assert FeatureEngine.from_yaml(source).digest() != engine.digest()
    data = {"colour": texts(["green"])}
    assert bits(FeatureEngine.from_dict(definition)(data)) == bits(engine(data))


def test_entries_and_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "empty_line.txt").write_text("a\n\nb\n")
    (tmp_path / "latin.txt").write_bytes(b"a\n\xff\n")
    (tmp_path / "words.txt").write_text("1\ntwo\n")
    (tmp_path / "twice.txt").write_text("a\nb\na\n")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    write_parquet(tmp_path / "nulls.parquet", c=["a", None])
    write_parquet(tmp_path / "floats.parquet", c=[1.0])
    write_parquet(tmp_path / "two.parquet", c=["a"], d=["b"])
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "either entries or file must be given; got neither"),
        ({"entries": ["a"], "file": "x"}, "got both"),
        ({"entries": ["a", 1]}, "all integers or all texts; got 1 at 1"),
        ({"entries": [True]}, "got True at 0"),
        ({"entries": "abc"}, "entries must be a list"),
        ({"entries": [1 << 63]}, "64-bit integers"),
        ({"entries": ["a", "b", "a"]}, "'a' is there twice, at 0 and 2"),
        ({"entries": ["a"], "oov_buckets": -1}, "oov_buckets must be in 0"),
        ({"entries": ["a"], "column": "c"}, "column and integers say how a file is read"),
        ({"file": "no.txt"}, "there is no vocabulary .*no.txt"),
        ({"file": "empty_line.txt"}, "empty_line.txt, line 2, is empty"),
        ({"file": "latin.txt"}, "latin.txt, line 2, is not UTF-8"),
        ({"file": "words.txt", "integers": True}, "words.txt, line 2, must be an integer; got 'two'"),
        ({"file": "words.txt", "column": "c"}, "column is for files of Parquet"),
        ({"file": "twice.txt"}, "twice.txt: 'a' is there twice"),
        ({"file": "broken.parquet"}, "broken.parquet is no readable file of Parquet"),
        ({"file": "nulls.parquet"}, "nulls.parquet, column 'c', row 1 .*: a null is no entry"),
        ({"file": "floats.parquet"}, "floats.parquet, column 'c', must hold integers or text; it is double"),
        ({"file": "two.parquet"}, "two.parquet: column must name one of its columns; it has c, d"),
        ({"file": "two.parquet", "column": "e"}, "there is no column 'e'; it has c, d"),
    ]
    for arguments, said in cases:
        given = {**arguments, "file": str(tmp_path / arguments["file"])} if "file" in arguments else arguments
        with pytest.raises((TypeError, ValueError, FileNotFoundError), match=said):
            Vocabulary(**given)


def test_the_digest_is_of_entries_not_of_where_they_came_from(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("red\ngreen\nblue\n")
    of_file = FeatureEngine([feature("c", "colour", Vocabulary(file=str(tmp_path / "c.txt")))])
    assert of_file.digest() == FeatureEngine([feature("c", "colour", Vocabulary(COLOURS))]).digest()
    assert of_file.digest() != FeatureEngine([feature("c", "colour", Vocabulary(COLOURS[::-1]))]).digest()
