"""Kill and resume: whatever stops when, and however many go on, each row comes once."""

import json
import os
import random
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from recis_core.io import ParquetDataset

ROWS = (61, 0, 47, 90)  # of each file
TOTAL = sum(ROWS)
STOPS = 100 if os.environ.get("RECIS_TEST_FULL") == "1" else 25


def write(path, begin, rows, group=17):
    numbers = list(range(begin, begin + rows))
    lists = pa.array([[n] * (n % 5) for n in numbers], pa.list_(pa.int64()))
    pq.write_table(pa.table({"row": pa.array(numbers, pa.int64()), "ids": lists}), path, row_group_size=group)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path, begin = tmp_path_factory.mktemp("rows"), 0
    for k, rows in enumerate(ROWS):
        write(path / f"part-{k}.parquet", begin, rows)
        begin += rows
    return path


@pytest.fixture(scope="module")
def small(folder):
    """A function that opens the files; `kind` says what else is asked of the data set."""

    def opened(kind="", where=(0, 1), batch_size=7, path=folder, **options):
        shuffles = {"shuffle": {"shuffle": True}, "buffer": {"shuffle": True, "shuffle_buffer": 25}}
        dataset = ParquetDataset(
            batch_size, *where, prefetch=0, read_threads_num=1, **shuffles.get(kind, {}), **options
        )
        dataset.add_path(path)
        dataset.fixedlen_feature("row", 0)
        dataset.varlen_feature("ids")
        if kind == "window":
            dataset.window(20, 150)
        if kind in ("filter", "buffer"):
            dataset.filter(pc.field("row") > 9)
        if kind == "cost":
            dataset.batch_by_cost(["ids"], 11)
        return dataset

    return opened


WANTED = {
    **{key: set(range(TOTAL)) for key in ("", "shuffle", "cost")},
    "window": set(range(20, 150)),
    **{key: set(range(10, TOTAL)) for key in ("filter", "buffer")},
}


class Workers:
    """Ranks, each with DataLoader workers (0: the rank itself), in one process."""

    def __init__(self, monkeypatch, opened, ranks, loaders):
        self._patch, self.who = monkeypatch, [(r, k) for r in range(ranks) for k in range(max(loaders, 1))]
        self._loaders = loaders
        self.data = [opened((r, ranks)) for r, _ in self.who]

    def _as(self, k):
        info = SimpleNamespace(id=self.who[k][1], num_workers=self._loaders) if self._loaders else None
        self._patch.setattr("recis_core.io.dataset.get_worker_info", lambda: info)
        return self.data[k]

    def load(self, states):
        self._patch.setattr("recis_core.io.dataset.get_worker_info", lambda: None)
        for dataset in self.data:
            dataset.load_state_dict(states)

    def run(self, most):
        """Rows that each worker makes in at most so many batches, and all states."""
        rows = []
        for k, limit in enumerate(most):
            batches = iter(self._as(k))
            for _ in range(limit):
                batch = next(batches, None)
                if batch is None:
                    break
                rows += batch["row"].tolist()
            self.data[k]._batches_running = batches  # as a process that is killed leaves it
        return rows, [json.loads(json.dumps(self._as(k).state_dict())) for k in range(len(self.data))]


@pytest.mark.parametrize("kind", list(WANTED))
def test_random_stops_of_any_number_of_workers(small, monkeypatch, kind):
    rng, stops = random.Random(kind), 0
    while stops < STOPS / len(WANTED):
        seen, states = [], None
        while len(seen) < len(WANTED[kind]):
            ranks, loaders = rng.choice([(1, 0), (2, 0), (3, 0), (1, 2), (2, 3)])
            workers = Workers(monkeypatch, lambda where: small(kind, where), ranks, loaders)
            if states is not None:
                workers.load(states)
            found, states = workers.run([rng.randrange(9) for _ in workers.data])
            seen += found
            stops += 1
            assert len(set(seen)) == len(seen)
        assert set(seen) == WANTED[kind]
    assert len(json.dumps(states)) < 5000
