"""python -m bench movielens, on ratings made here: what is trained on and held out, the twin, and rows."""

import json

import numpy as np
import pytest
import torch

from recis_core.bench.movielens import cases, data, training
from recis_core.bench.movielens import run as movielens
from recis_core.bench.movielens.training import MODELS, SASREC, TWIN, Hyperparameters

HEAD = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
RATINGS = [(5, 30, 9), (5, 10, 1), (5, 20, 5), (5, 40, 12), (7, 20, 3), (7, 30, 1), (7, 10, 2)]  # user, item, time


def written(folder, ratings):
    file = folder / "recbole" / data.FILE
    file.parent.mkdir(parents=True)
    (folder / "recbole/__init__.py").write_text("raise RuntimeError('imported')\n")
    file.write_text(HEAD + "".join(f"{user}\t{item}\t3\t{time}\n" for user, item, time in ratings))


@pytest.fixture
def many(tmp_path, monkeypatch):
    """Of 40 users: each follows the items in a circle of 12."""
    starts = np.random.default_rng(0).integers(0, 12, 40)
    written(tmp_path, [(u, 100 + (s + i) % 12, i) for u, s in enumerate(starts) for i in range(15)])
    monkeypatch.syspath_prepend(tmp_path)
    cases.trained.cache_clear()
    yield
    cases.trained.cache_clear()


def test_sequences(tmp_path):
    written(tmp_path, RATINGS)
    ratings = data.read(tmp_path / "recbole" / data.FILE)
    assert (ratings.users, ratings.item_count) == (2, 4)
    assert ratings.items.tolist() == [0, 1, 2, 3, 2, 0, 1]
    both = np.array([0, 1])
    train = data.training(ratings, both, 9)
    assert train.history.values().tolist() == [0]  # then 1; user 7 has no rating to train on but the first
    assert train.history.offsets()[0].tolist() == [0, 1, 1]
    assert train.next.tolist() == [1]
    validation, test = (data.held_out(ratings, both, 2, left=left) for left in (2, 1))
    assert validation.history.values().tolist() == [0, 1, 2]
    assert validation.next.tolist() == [2, 0]
    assert test.history.values().tolist() == [1, 2, 2, 0]  # the newest two
    assert test.timestamps.values().tolist() == [5, 9, 1, 2]
    assert test.next.tolist() == [3, 1]


def test_the_twin_is_sasrec(many):
    given, ratings = Hyperparameters(dim=8, longest=10, dropout=0.0), data.read(data.installed_file())
    ours, twin = (training.made(name, given, ratings.item_count, "torch", 0) for name in (SASREC, TWIN))
    losses = []
    for model, optimizer in (ours, twin):
        rng = np.random.default_rng(0)
        steps = [each for _ in range(3) for each in training.batches(ratings, given, rng)]
        losses.append([training.step(model, optimizer, each, ratings.item_count) for each in steps])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0][-1] < losses[0][0]


def test_rows_and_records(many, tmp_path, monkeypatch, capsys):
    records = []
    monkeypatch.setattr(movielens.records, "keep", records.extend)
    out = tmp_path / "rows.jsonl"
    words = "--seeds 1 --epochs 1 --backend torch --records --out"
    assert movielens.run([*words.split(), str(out)]) == 0
    assert "for research" in capsys.readouterr().out
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert tuple(row["model"] for row in rows) == MODELS
    assert all(0 <= row["ndcg10"] <= row["hr10"] <= 1 for row in rows)
    assert rows[-1]["below_twin"] == 0
    assert [record["model"] for record in records] == ["SASRec", "HSTU"]
    assert records[0]["figures"]["HR@10"] == rows[0]["hr10"]
    assert records[1]["peer_figures"]["HR@10"] == rows[-1]["hr10"]


def test_without_recbole(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"pip install --no-deps recbole==1\.2\.1"):
        movielens.run(["--seeds", "1"])


def test_the_best_is_ranked_first(many):
    """A model that knows the circle has HR@10 of 1, and one that gives all the same score that of chance."""
    ratings = data.read(data.installed_file())

    class Fixed(torch.nn.Module):
        def __init__(self, knows):
            super().__init__()
            self.knows = knows

        def forward(self, batch, *, last):
            ends = batch["history"].values()[batch["history"].offsets()[0][1:] - 1]
            right = torch.nn.functional.one_hot((ends + 1) % 12, 12).float()
            return right if self.knows else torch.zeros_like(right)

    assert training.ranked(Fixed(True), ratings, Hyperparameters(), left=1) == (1.0, 1.0)
    assert training.ranked(Fixed(False), ratings, Hyperparameters(), left=1)[0] == pytest.approx(10 / 12)
