"""DeepFM on the real click log: the same curve on every backend, and the quality of plain torch with dictionaries.

On jax in `make test-full`; its tables are those of numba in tests/parity/test_demo_tables.py.

Sizes: B rows of a batch, F fields, D dim.
"""

import os

import numpy as np
import pytest
import torch
from torch import nn

from recis_core.backends.initial_values import initial_values
from recis_core.cli.source import open_source
from recis_core.cli.train import train
from recis_core.cli.train_config import TrainConfig
from recis_core.metrics import auc
from recis_core.models import DeepFM
from recis_core.table.uid import uid
from tests.parity.click_log import click_log

LR, DIM, BATCH = 1e-3, 16, 2048
BACKENDS = ("torch", "numba", *(["jax"] if os.environ.get("RECIS_TEST_FULL") == "1" else []))


class Heard:
    """A report that keeps what it hears."""

    def __init__(self):
        self.losses, self.last = [], None

    def training(self, rows, loop):
        import contextlib

        return contextlib.nullcontext()

    def log(self, logged):
        self.losses.append(logged.loss)

    def final(self, final):
        self.last = final


def config(**changes):
    return TrainConfig(data=click_log(), label="label", lr=LR, dim=DIM, batch_size=BATCH, log_every=1, **changes)


@pytest.fixture(scope="module")
def heard(request):
    runs = {}
    for backend in BACKENDS:
        runs[backend] = Heard()
        train(config(backend=backend), runs[backend])
    return runs


def test_the_curve_is_the_same_on_every_backend(heard):
    want = np.array(heard["torch"].losses)
    assert len(want) == 18
    for backend in BACKENDS[1:]:
        np.testing.assert_allclose(heard[backend].losses, want, atol=1e-4, rtol=0, err_msg=backend)


class DictionaryDeepFM(nn.Module):
    """The same model in plain torch: a dictionary a field, static tables, the same initial rows and tower."""

    def __init__(self, twin, batches):
        super().__init__()
        self.fields, self.twin = twin.fields, twin
        self.index = {
            f: {i: k for k, i in enumerate(sorted(seen[f]))} for seen in [_seen(batches)] for f in self.fields
        }
        self.vectors = nn.ModuleDict({f: self._table(f, f, DIM) for f in self.fields})
        self.weights = nn.ModuleDict({f: self._table(f, f"{f}:linear", 1) for f in self.fields})

    def _table(self, field, name, dim):
        ids = np.array(list(self.index[field]), dtype=np.int64)
        option = self.twin.embeddings.options[name]
        rows = initial_values(option.init.distribution(dim), option.seed, np.uint32(uid(name)), ids, dim)
        # one row more, of zeros: what an id reads as that was never trained
        padded = torch.from_numpy(np.concatenate([rows, np.zeros((1, dim), np.float32)]))
        return nn.EmbeddingBag.from_pretrained(padded, freeze=False, mode="sum", sparse=True)

    def forward(self, batch):
        vectors, weights = [], []
        for f in self.fields:
            known, ids = self.index[f], batch[f].values().tolist()
            index = torch.tensor([known.get(i, len(known)) for i in ids], dtype=torch.int64)
            offsets = batch[f].offsets()[-1][:-1]
            vectors.append(self.vectors[f](index, offsets))
            weights.append(self.weights[f](index, offsets))
        v = torch.stack(vectors, 1)
        deep = torch.cat([v.flatten(1), batch["dense"]], 1)
        linear = torch.stack(weights, 1).sum((1, 2)) + self.twin.dense_linear(batch["dense"])[:, 0]
        pairs = 0.5 * (v.sum(1).square() - v.square().sum(1)).sum(1)
        return self.twin.bias + linear + pairs + self.twin.tower(deep)[:, 0]


def _seen(batches):
    seen = {}
    for batch in batches:
        for name, value in batch.items():
            if hasattr(value, "offsets"):
                seen.setdefault(name, set()).update(value.values().tolist())
    return seen


def plain_torch_auc():
    source = open_source(config())
    torch.manual_seed(0)
    twin = DeepFM(source.fields, DIM, dense=source.dense, backend="torch")
    model = DictionaryDeepFM(twin, source.train_batches(BATCH))
    dense = torch.optim.Adam([p for n, p in model.named_parameters() if n.startswith("twin.")], LR)
    sparse = torch.optim.SparseAdam([*model.vectors.parameters(), *model.weights.parameters()], LR)
    for batch in source.train_batches(BATCH):
        loss = nn.functional.binary_cross_entropy_with_logits(model(batch), batch["label"])
        for optimizer in (dense, sparse):
            optimizer.zero_grad()
        loss.backward()
        for optimizer in (dense, sparse):
            optimizer.step()
    with torch.no_grad():
        scored = [(model(batch).numpy(), batch["label"].numpy()) for batch in source.test_batches()]
    scores, labels = (np.concatenate(part) for part in zip(*scored, strict=True))
    return auc(scores, labels)


def test_quality_is_that_of_plain_torch_with_dictionaries(heard):
    want = plain_torch_auc()
    for backend, run in heard.items():
        assert run.last["auc"] == pytest.approx(want, abs=0.005), backend


def test_the_log_holds_what_it_is_to_show():
    """Empty lists and ids past 32 bits are among what was trained on."""
    lengths, largest = [], 0
    for batch in open_source(config()).train_batches(BATCH):
        fields = [value for value in batch.values() if hasattr(value, "offsets")]
        lengths += [int(value.lengths().min()) for value in fields]
        largest = max(largest, *(int(value.values().abs().max()) for value in fields if len(value.values())))
    assert min(lengths) == 0
    assert largest >= 2**39
