"""MemoryError at every line of a call: the call has happened, or it has not, in each table; and training goes on as ever.

Lines are those of recis_core/nn, table and optim; backends see to their own.
"""

import gc
import os
import sys
from pathlib import Path

import pytest
import torch

import recis_core
from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseAdam, join

FULL = os.environ.get("RECIS_TEST_FULL") == "1"
PLACES = 60 if FULL else 3  # of each call, spread over its lines, of which there are thousands
HOUSE = Path(recis_core.__file__).parent
ROOMS = tuple(str(HOUSE / room) + os.sep for room in ("nn", "table", "optim"))
COMMITS = ("state", "_after", "done", "t_of_tables")  # only assign what was made before, once a stage has run
BACKENDS = ["torch", "numba", *(["jax"] if FULL else [])]


class Lines:
    """Counts lines of our files, and raises at one of them."""

    def __init__(self, at=None):
        self.at, self.count = at, 0

    def __enter__(self):
        sys.settrace(self._call)
        return self

    def __exit__(self, *_):
        sys.settrace(None)

    def _call(self, frame, event, arg):
        ours = frame.f_code.co_filename.startswith(ROOMS) and frame.f_code.co_name not in COMMITS
        return self._line if ours else None

    def _line(self, frame, event, arg):
        if event == "line":
            self.count += 1
            if self.count == self.at:
                raise MemoryError(f"line {frame.f_lineno} of {frame.f_code.co_filename}")
        return self._line


class Rig:
    """Tables a and c share a storage, b has one of its own; a dense layer; trained two steps."""

    def __init__(self, backend):
        torch.manual_seed(0)
        option = EmbeddingOption(4, backend=backend, block_size=64, filter_hook="lfu(5)")
        self.engine = EmbeddingEngine({"a": option, "c": option, "b": EmbeddingOption(3, backend=backend)})
        self.tower = torch.nn.Linear(11, 1)
        sparse = SparseAdam(self.engine.sparse_parameters(), lr=0.1)
        self.optimizer = join(torch.optim.SGD(self.tower.parameters(), lr=0.1), sparse)
        for number in range(2):
            self.train(number)
        self.saved = {k: v.clone() for k, v in self.engine.table("a").state_dict().items()}
        self.train(2)
        self.loss = None

    def train(self, number):
        self.optimizer.zero_grad()
        self.forward(number)
        self.loss.backward()
        self.optimizer.step()

    def forward(self, number=7):
        ids = torch.arange(6) + number
        out = self.engine({"a": ids, "b": ids * 5, "c": ids // 2})
        self.loss = self.tower(torch.cat([out["a"], out["b"], out["c"]], 1)).square().sum()

    def content(self):
        """Of each storage: its keys with their rows and slots."""
        storages = dict.fromkeys(t.physical for t in self.engine.sparse_parameters().values())
        found = []
        for storage in storages:
            s = storage.export()
            rows = torch.cat([s.weights, *(s.slots[name] for name in sorted(s.slots))], 1)
            keys = zip(s.tables.tolist(), s.ids.tolist(), strict=True)
            found.append(dict(zip(keys, map(tuple, rows.tolist()), strict=True)))
        return found


def forward(rig):
    rig.forward()


def backward(rig):
    rig.loss.backward()


def step(rig):
    rig.optimizer.step()


def zero_grad(rig):
    rig.optimizer.zero_grad()


def insert(rig):
    rig.engine.table("a").insert(torch.tensor([1, 99]), torch.full((2, 4), 0.5))


def erase(rig):
    rig.engine.table("a").physical.erase(torch.tensor([2, 3, 77]), 0)


def evict(rig):
    rig.engine.evict()


def clear(rig):
    rig.engine.table("b").clear()


def clear_one_of_two(rig):
    rig.engine.table("a").clear()


def load(rig):
    rig.engine.table("a").load_state_dict(rig.saved)


CALLS = [forward, backward, step, zero_grad, insert, erase, evict, clear, clear_one_of_two, load]


def prepared(backend, call):
    rig = Rig(backend)
    if call in (backward, step):
        rig.optimizer.zero_grad()
        rig.forward()
    if call is step:
        rig.loss.backward()
    return rig


def goes_on(rig):
    """Two more steps, from nothing pending."""
    for number in (3, 11):
        rig.train(number)
    return rig.content(), [p.detach().clone() for p in rig.tower.parameters()]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_memory_error_at_each_line(call, backend):
    twin = prepared(backend, call)
    before = twin.content()
    with Lines() as lines:
        call(twin)
    after, t = twin.content(), dict(twin.optimizer.sparse.state_dict()["t"])
    moved = [p.detach().clone() for p in twin.tower.parameters()]
    want = goes_on(twin)
    assert lines.count > 5
    places = range(1, lines.count + 1)
    for at in places[:: max(1, lines.count // PLACES)]:
        rig = prepared(backend, call)
        where = "nowhere"
        try:
            with Lines(at):
                call(rig)
        except MemoryError as error:
            where = str(error)
        gc.collect()
        now = rig.content()
        for got, one, other in zip(now, before, after, strict=True):
            assert got in (one, other), f"{where}: a table is neither as before nor as after"
        if call is backward:
            rig.optimizer.zero_grad()
            rig.forward()
        # A step that raises once all is done has happened: what tells is that the dense side, its last, has moved.
        if call is not step or not all(map(torch.equal, rig.tower.parameters(), moved)):
            call(rig)
        assert rig.content() == after, f"{where}: repeated, it does not what it does at once"
        assert rig.optimizer.sparse.state_dict()["t"] == t, where
        got = goes_on(rig)
        assert got[0] == want[0], where
        assert all(map(torch.equal, got[1], want[1])), where
