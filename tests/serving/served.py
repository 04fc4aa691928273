"""A small model in training, and what a serving process must then hold."""

import torch

from recis_core.framework import TrainLoop
from recis_core.io import SyntheticClicks
from recis_core.models import DeepFM
from recis_core.nn import filter_out_sparse_param
from recis_core.optim import SparseAdam, join

FIELDS = [field.name for field in SyntheticClicks("tiny").preset.fields]


def deepfm(backend="numba", fields=FIELDS, dense=0, dim=8):
    """(train loop, its tables)."""
    torch.manual_seed(0)
    model = DeepFM(fields, dim, dense=dense, backend=backend)
    tables = filter_out_sparse_param(model)
    return TrainLoop(model, join(torch.optim.Adam(model.parameters(), 1e-3), SparseAdam(tables, lr=1e-3))), tables


def batches(steps, batch_size=128):
    return list(SyntheticClicks("tiny").dataset(batch_size, stop=steps * batch_size))


def assert_served(store, tables, close=torch.equal):
    """The store holds exactly the tables' ids, with rows that are `close(served, trained)`."""
    assert store.tables == {name: table.dim for name, table in tables.items()}
    for name, table in tables.items():
        trained = table.snapshot()
        assert torch.equal(store.ids(name), trained.ids), name
        assert close(store.lookup(name, trained.ids), trained.weights.float()), name


class MemorySink:
    """Keeps the frames of each version; `missing` makes the next send fail."""

    def __init__(self):
        self.versions, self.missing, self._holds = [], False, (b"", 0)

    def holds(self):
        return self._holds

    def send(self, frames):
        from recis_core.exchange import decode

        if self.missing:
            self.missing = False
            raise OSError("no space left")
        frames = list(frames)
        self.versions.append(frames)
        header = decode(frames[-1]).header
        self._holds = (header.stream, header.version)
