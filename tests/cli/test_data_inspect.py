"""recis data inspect: a table, JSON, a page without a network, and features to begin from."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recis_core.cli import main
from recis_core.features import FeatureEngine
from recis_core.io import ParquetDataset

N = 40
EVIL = '<script>alert("x")</script>&'


def inspect(*argv):
    return main(["data", "inspect", *map(str, argv)])


@pytest.fixture
def log(tmp_path):
    columns = {
        "click": [n % 2 for n in range(N)],
        "user": [n // 3 for n in range(N)],
        EVIL: [EVIL if n % 2 else None for n in range(N)],
        "items": [[*range(n % 5)] for n in range(N)],
        "items_weight": [[0.5] * (n % 5) for n in range(N)],
        "price": np.linspace(-3, 900, N),
        "at": pa.array(range(N), pa.timestamp("s")),
        "deep": [[[1]]] * N,
    }
    pq.write_table(pa.table(columns), tmp_path / "log.parquet", row_group_size=9)
    return tmp_path / "log.parquet"


def test_the_table(log, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert inspect(log, "--sample", 2) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"40 rows in {log}\n")
    [user] = [line for line in out.splitlines() if line.startswith("user  ") and "int64" in line]
    assert re.split(r"\s{2,}", user)[:5] == ["user", "int64", "ids", "0.0%", "14"]
    assert EVIL in out
    assert inspect(log, "--rows", 7, "--sample", 0) == 0
    assert "of the first 7:" in capsys.readouterr().out


def test_json(log, capsys):
    assert inspect(log, "--json", "--sample", 1) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["columns"]["items"]["lengths"]["max"] == 4
    assert found["columns"][EVIL]["null_rate"] == 0.5
    assert found["sample"] == [{"click": 0, "user": 0, EVIL: None, "items": [], "items_weight": [], "price": -3.0,
                                "at": "1970-01-01 00:00:00", "deep": [[1]]}]  # fmt: skip


INSIDE = {"td": "tr", "th": "tr", "tr": "table", "rect": "svg", "text": "svg", "svg": "figure", "figure": "section",
          "h2": "section", "section": "body", "title": "head", "head": "html", "body": "html"}  # fmt: skip


class Page(HTMLParser):
    """Every tag is closed in order, and stands in the one that may hold it.

    Collects tags, attributes that could load something, headings, tables as rows of cells, and plots as (width, bars).
    """

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.links = [], set(), []
        self.headings, self.tables, self.plots = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href", "action", "data")]
        assert tag not in INSIDE or self.open[-1:] == [INSIDE[tag]]
        if tag != "meta":
            self.open.append(tag)
        self._collect(tag, dict(attrs))

    def _collect(self, tag, attrs):
        if tag == "h2":
            self.headings.append("")
        elif tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "svg":
            self.plots.append((int(attrs["width"]), []))
        elif tag == "rect":
            self.plots[-1][1].append((int(attrs["x"]), int(attrs["width"])))

    def handle_data(self, text):
        if self.open[-1:] == ["h2"]:
            self.headings[-1] += text
        elif self.open[-1:] in (["td"], ["th"]):
            self.tables[-1][-1][-1] += text

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("wrong", ["<p><b></p></b>", "<p>", "<table><td></td></table>", "</p>"])
def test_a_page_that_is_not_whole_is_seen(wrong):
    with pytest.raises((AssertionError, IndexError)):
        Page(wrong)


def test_the_page_is_whole_escaped_and_needs_no_network(log, tmp_path, capsys):
    assert inspect(log, "--html", tmp_path / "page.html") == 0
    text = (tmp_path / "page.html").read_text()
    page = Page(text)
    assert "script" not in page.tags
    assert {"svg", "rect", "table"} <= page.tags
    assert page.links == []
    assert "http" not in text
    assert "url(" not in text
    assert "&lt;script&gt;" in text
    assert "rows by length" in text
    names = list(pq.read_schema(log).names)
    assert [heading.strip() for heading in page.headings] == [*names, "first rows", "files"]
    overview, sample, files = page.tables
    assert [row[0] for row in overview[1:]] == names
    assert all(len(row) == len(table[0]) for table in page.tables for row in table)
    assert [row[0] for row in sample[1:]] == names
    assert files[1:] == [[str(log), "40"]]
    assert page.plots
    for width, bars in page.plots:
        assert bars
        assert all(x + bar <= width for x, bar in bars)
    assert inspect(log, "--html", tmp_path / "page.html") == 1
    assert "is there already, and is not replaced" in capsys.readouterr().err


def test_features_to_begin_from_read_what_recis_train_reads(log, tmp_path, capsys):
    assert inspect(log, "--write-features", tmp_path / "f.yaml", "--skip", "click", EVIL, "--json") == 0
    engine = FeatureEngine.from_yaml(tmp_path / "f.yaml")
    assert list(engine.features) == ["user", "items", "price", "at"]
    dataset = ParquetDataset(N)
    dataset.add_path(log)
    engine.read_by(dataset)
    [batch] = dataset.map(engine)
    assert batch["at"].values()[:3].tolist() == [0, 10**6, 2 * 10**6]
    price = np.linspace(-3, 900, N)
    assert np.allclose(batch["price"].values().numpy(), np.sign(price) * np.log1p(np.abs(price)), rtol=1e-6)
    capsys.readouterr()
    assert inspect(log, "--write-features", tmp_path / "g.yaml", "--skip", "nobody") == 1
    assert "--skip names 'nobody', which is no column" in capsys.readouterr().err
    assert not (tmp_path / "g.yaml").exists()


def test_what_is_refused(log, tmp_path, capsys):
    content = log.read_bytes()
    (tmp_path / "bad.parquet").write_bytes(content[: len(content) // 2])
    (tmp_path / "none").mkdir()
    for argv, said in (
        ([tmp_path / "bad.parquet", "--html", tmp_path / "p.html"], "bad.parquet cannot be read as Parquet"),
        ([tmp_path / "none"], "must name at least one file"),
        ([log, "--html", tmp_path / "no" / "p.html"], "there is no directory"),
    ):
        assert inspect(*argv) == 1
        assert said in capsys.readouterr().err
    assert not (tmp_path / "p.html").exists()
    for argv, said in (
        ([log, "--html", "p.txt"], "--html must end in .html or .htm; got p.txt"),
        ([log, "--skip", "user"], "--skip goes with --write-features"),
        ([log, "--rows", 0], "--rows should be greater than or equal to 1; got 0"),
    ):
        with pytest.raises(SystemExit) as stop:
            inspect(*argv)
        assert stop.value.code == 2
        assert said in capsys.readouterr().err


# Files of pandas and polars, from their hands to a trained model.


def clicks():
    moments = [pd.Timestamp("2024-03-01 12:00") + pd.Timedelta(minutes=n) for n in range(N)]
    return {
        "click": [n % 2 for n in range(N)],
        "city": [None if n % 7 == 0 else f"city {n % 5}" for n in range(N)],
        "tags": [None if n % 6 == 0 else [f"t{n % 3}", f"t{n % 4}"] for n in range(N)],
        "history": [[*range(n % 4)] for n in range(N)],
        "at": [None if n % 9 == 0 else moments[n].to_pydatetime() for n in range(N)],
        "price": [None if n % 5 == 0 else n / 3 for n in range(N)],
    }


@pytest.mark.parametrize("writer", ["pandas", "polars"])
def test_files_of_pandas_and_polars(tmp_path, capsys, writer):
    """Inspected, converted and trained on, also by the inferred features: strings, lists, nulls and timestamps."""
    path = tmp_path / "clicks.parquet"
    if writer == "pandas":
        pd.DataFrame(clicks()).to_parquet(path)
    else:
        pl.DataFrame(clicks()).write_parquet(path)
    assert inspect(path, "--json") == 0
    column = json.loads(capsys.readouterr().out)["columns"]
    assert {name: column[name]["read_as"] for name in column} == dict.fromkeys(clicks(), "ids") | {"price": "dense"}
    assert [column[name]["null_rows"] for name in clicks()] == [0, 6, 7, 0, 5, 8]
    assert column["at"]["max"] == "2024-03-01 12:39:00"
    assert main(["data", "convert", str(path), str(tmp_path / "clicks.arrow")]) == 0
    assert inspect(path, "--write-features", tmp_path / "f.yaml", "--skip", "click", "--json") == 0
    other = (tmp_path / "clicks.arrow", []) if writer == "pandas" else (path, ["--features", str(tmp_path / "f.yaml")])
    assert trained(capsys, path) == trained(capsys, other[0], *other[1])


def trained(capsys, path, *flags):
    """The hash of the tables."""
    capsys.readouterr()
    fast = ["--label", "click", "--backend", "torch", "--dim", "2", "--batch-size", "16", "--json"]
    assert main(["train", "--data", str(path), *fast, *flags]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])["tables_sha256"]
