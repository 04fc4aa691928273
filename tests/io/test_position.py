"""Kill and resume: whatever stops when, and however many go on, each row comes once."""

import hashlib
import json
import os
import random
import shutil
from types import SimpleNamespace

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from recis_core.io import SyntheticClicks
from tests.io.opened_rows import ROWS, TOTAL, opened, rows_of, taken, write, write_all

STOPS = 100 if os.environ.get("RECIS_TEST_FULL") == "1" else 25
KINDS = {
    "shuffle": {"shuffle": True},
    "buffer": {"shuffle": True, "shuffle_buffer": 25},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("rows"))


def made(folder, kind, where):
    dataset = opened(folder, where, **KINDS.get(kind, {}))
    if kind == "window":
        dataset.window(20, 150)
    if kind in ("filter", "buffer"):
        dataset.filter(pc.field("row") > 9)
    if kind == "cost":
        dataset.batch_by_cost(["ids"], 11)
    return dataset


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
        self.data, self.running = [opened((r, ranks)) for r, _ in self.who], []

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
            self.running.append(batches)
        return rows, [json.loads(json.dumps(self._as(k).state_dict())) for k in range(len(self.data))]


@pytest.mark.parametrize("kind", list(WANTED))
def test_random_stops_of_any_number_of_workers(folder, monkeypatch, kind):
    rng, stops = random.Random(kind), 0
    while stops < STOPS / len(WANTED):
        seen, states = [], None
        while len(seen) < len(WANTED[kind]):
            ranks, loaders = rng.choice([(1, 0), (2, 0), (3, 0), (1, 2), (2, 3)])
            workers = Workers(monkeypatch, lambda where: made(folder, kind, where), ranks, loaders)
            if states is not None:
                workers.load(states)
            found, states = workers.run([rng.randrange(9) for _ in workers.data])
            seen += found
            stops += 1
            assert len(set(seen)) == len(seen)
        assert set(seen) == WANTED[kind]
    assert len(json.dumps(states)) < 5000


@pytest.mark.parametrize("kind", list(WANTED))
def test_the_same_workers_make_the_same_batches(folder, kind):
    """Bit for bit, into the next epoch."""
    for worker in range(2):
        whole, part, again = (made(folder, kind, (worker, 2)) for _ in range(3))
        expected = rows_of(whole) + rows_of(whole)
        seen, _ = taken(part, 3)
        again.load_state_dict(json.loads(json.dumps(part.state_dict())))
        assert seen + rows_of(again) + rows_of(again) == expected
        assert again.state_dict() == {
            **part.state_dict(),
            "epoch": 1,
            "ended": True,
            "cuts": again.state_dict()["cuts"],
        }


def test_at_the_end_of_an_epoch(folder):
    shares = [opened(folder, (k, 2), shuffle=True) for k in range(2)]
    for share in shares:
        list(share)
    states = [share.state_dict() for share in shares]
    assert all(state["ended"] for state in states)
    one, again = opened(folder, shuffle=True), opened(folder, shuffle=True)
    one.load_state_dict(states)
    list(again)
    assert rows_of(one) == rows_of(again)  # both are in epoch 1
    before, _ = taken(shares[0], 0)  # has begun the next epoch, and the other has not
    assert before == []
    one.load_state_dict([shares[0].state_dict(), states[1]])
    assert one.ended


def test_the_end_of_a_share_is_not_the_end_of_the_epoch(folder):
    """A worker without rows left waits for the others; it does not begin the next epoch."""
    first, second = (opened(folder, (k, 2)) for k in range(2))
    list(first)
    seen, _ = taken(second, 3)
    again = [opened(folder, (k, 2)) for k in range(2)]
    for dataset in again:
        dataset.load_state_dict([first.state_dict(), second.state_dict()])
    assert rows_of(again[0]) == []
    assert sorted(seen + rows_of(again[1])) == list(range(TOTAL // 2, TOTAL))


def test_merged_states_are_small_and_for_any_number(folder):
    shares = [opened(folder, (k, 3)) for k in range(3)]
    seen = [row for share in shares for row in taken(share, 2)[0]]
    state = shares[0].merge_states([share.state_dict() for share in shares])
    assert state["done"] == [[66 * k, 66 * k + 14] for k in range(3)]
    assert state["cuts"] == []
    rest = []
    for k in range(5):
        dataset = opened(folder, (k, 5))
        dataset.load_state_dict(state)
        rest += rows_of(dataset)
    assert sorted(seen + rest) == list(range(TOTAL))


def test_done_rows_are_those_of_files(folder):
    for kind in ("", "shuffle", "buffer"):
        dataset = made(folder, kind, (0, 1))
        seen, running = taken(dataset, 9)
        begins = {str(folder / f"part-{k}.parquet"): sum(ROWS[:k]) for k in range(len(ROWS))}
        done = [begins[f] + row for f, runs in dataset.done_rows().items() for run in runs for row in range(*run)]
        left_out = set(range(10)) if kind == "buffer" else set()  # a filter's rows are done, too
        assert set(seen) <= set(done) <= set(seen) | left_out
        running.close()
        assert sum(end - begin for runs in dataset.done_rows().values() for begin, end in runs) == len(done)


def test_positions_of_some_workers_are_refused(folder):
    states = [opened(folder, (k, 3)).state_dict() for k in range(3)]
    one = opened(folder)
    for some, message in (
        (states[:2], "worker 2 of 3 is missing, whose rows would be lost or come twice"),
        ([*states, opened(folder, (1, 2)).state_dict()], "of different numbers of workers"),
    ):
        with pytest.raises(ValueError, match=message):
            one.load_state_dict(some)
    ahead = opened(folder, (1, 2))
    list(ahead)
    taken(ahead, 1)
    with pytest.raises(ValueError, match="positions must be of one epoch; got 0, and 1 of worker 1 of 2"):
        one.load_state_dict([opened(folder, (0, 2)).state_dict(), ahead.state_dict()])
    with pytest.raises(ValueError, match="has an epoch"):
        one.load_state_dict({"model": 1})
    with pytest.raises(ValueError, match="a position of version 3 cannot be read"):
        one.load_state_dict({**states[0], "version": 3})
    assert rows_of(one) == list(range(TOTAL))


def test_a_position_of_before_version_2(folder):
    listing = "\n".join(f"part-{k}.parquet:{rows}" for k, rows in enumerate(ROWS))
    digest = hashlib.sha256(listing.encode()).hexdigest()[:16]
    old = [{"epoch": 1, "rows": 21, "worker_idx": k, "worker_num": 2} for k in range(2)]
    old = [{**state, "files": digest, "window": [], "shuffle_seed": None} for state in old]
    same, one = opened(folder, (1, 2)), opened(folder)
    same.load_state_dict(old[1])
    assert rows_of(same) == list(range(99 + 21, TOTAL))
    one.load_state_dict(old)
    assert rows_of(one) == [*range(21, 99), *range(99 + 21, TOTAL)]
    with pytest.raises(ValueError, match="files must be 'other'"):
        one.load_state_dict({**old[0], "files": "other"})


def test_synthetic_samples_too():
    clicks, rng = SyntheticClicks("tiny"), random.Random(0)
    for _ in range(2):
        seen, states = [], None
        while len(seen) < 200:
            workers = rng.choice([1, 2, 3])
            data = [clicks.dataset(16, stop=200, worker_idx=k, worker_num=workers, prefetch=0) for k in range(workers)]
            for dataset in data:
                if states is not None:
                    dataset.load_state_dict(states)
            for dataset in data:
                running = iter(dataset)
                for _ in range(rng.randrange(7)):
                    seen += next(running, {"p": []})["p"]
            states = [dataset.state_dict() for dataset in data]
        assert sorted(map(float, seen)) == sorted(map(float, clicks.batch(0, 200)["p"]))


# Changed files


@pytest.fixture
def stopped(tmp_path):
    """(folder, rows seen, position): a copy of the files, read in part."""
    write_all(tmp_path)
    dataset = opened(tmp_path)
    seen, _ = taken(dataset, 10)
    return tmp_path, seen, dataset.state_dict()


def one_bit(path):
    content = bytearray(path.read_bytes())
    content[30] ^= 1
    path.write_bytes(content)


CHANGES = {
    "gone": (lambda f: (f / "part-2.parquet").unlink(), r"part-2\.parquet is gone"),
    "shorter": (lambda f: write(f / "part-2.parquet", 61, 40), r"part-2\.parquet lost rows: it has 40, and had 47"),
    "longer": (lambda f: write(f / "part-2.parquet", 61, 50), r"part-2\.parquet got rows: it has 50, and had 47"),
    "rewritten": (
        lambda f: one_bit(f / "part-2.parquet"),
        r"part-2\.parquet was rewritten: it holds other bytes",
    ),
    "regrouped": (lambda f: write(f / "part-2.parquet", 61, 47, 5), r"part-2\.parquet was rewritten: it has \d+ bytes"),
    "came": (lambda f: write(f / "part-9.parquet", 500, 5), r"part-9\.parquet came since .*allow_new_files=True"),
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_a_changed_data_set_is_an_error_that_names_the_file(stopped, change):
    folder, _, state = stopped
    make, message = CHANGES[change]
    make(folder)
    dataset = opened(folder)
    with pytest.raises(ValueError, match=message):
        dataset.load_state_dict(state)
    assert dataset.state_dict()["cuts"] == [[0, 1, 0]]


def test_a_copy_in_another_folder_is_the_same(stopped, tmp_path_factory):
    folder, seen, state = stopped
    other = tmp_path_factory.mktemp("moved") / "deep"
    shutil.copytree(folder, other)
    dataset = opened(other)
    dataset.load_state_dict(state)
    assert seen + rows_of(dataset) == list(range(TOTAL))


@pytest.mark.parametrize("kind", ["", "shuffle", "buffer"])
@pytest.mark.parametrize("new", ["a.parquet", "z.parquet"])  # before and after the others
def test_new_files_come_after_the_others(tmp_path, kind, new):
    write_all(tmp_path)
    shares = [made(tmp_path, kind, (k, 2)) for k in range(2)]
    seen = [row for share in shares for row in taken(share, 5)[0]]
    write(tmp_path / new, 1000, 30)
    more = [made(tmp_path, kind, (k, 3)) for k in range(3)]
    for dataset in more:
        dataset.load_state_dict([share.state_dict() for share in shares], allow_new_files=True)
    seen += [row for dataset in more for row in taken(dataset, 3)[0]]
    whole = made(tmp_path, kind, (0, 1))  # stopped again: the files now are those of the position
    whole.load_state_dict([dataset.state_dict() for dataset in more])
    seen += rows_of(whole)
    assert sorted(seen) == sorted((WANTED[kind] if kind else set(range(TOTAL))) | set(range(1000, 1030)))
    fresh = made(tmp_path, kind, (0, 1))
    list(fresh)
    assert rows_of(whole) == rows_of(fresh)  # the next epoch is one of all files


def test_new_files_after_an_epochs_end_are_the_rest_of_it(stopped):
    folder, _, _ = stopped
    dataset = opened(folder)
    list(dataset)
    write(folder / "part-9.parquet", 500, 5)
    again = opened(folder)
    again.load_state_dict(dataset.state_dict(), allow_new_files=True)
    assert rows_of(again) == list(range(500, 505))
    assert len(rows_of(again)) == TOTAL + 5


def test_new_files_with_a_window_come_last(tmp_path):
    write_all(tmp_path)
    dataset = made(tmp_path, "window", (0, 1))
    seen, _ = taken(dataset, 4)
    write(tmp_path / "z.parquet", 1000, 30)
    again = made(tmp_path, "window", (0, 1))
    again.load_state_dict(dataset.state_dict(), allow_new_files=True)
    assert seen + rows_of(again) == list(range(20, 150))
    write(tmp_path / "a.parquet", 2000, 30)
    with pytest.raises(ValueError, match="with a window files must be in the order of then"):
        made(tmp_path, "window", (0, 1)).load_state_dict(dataset.state_dict(), allow_new_files=True)


def test_a_file_that_is_rewritten_while_it_is_read(stopped):
    folder, _, _ = stopped
    dataset = opened(folder)
    taken(dataset, 1)
    pq.write_table(pq.read_table(folder / "part-3.parquet").slice(0, 80), folder / "part-3.parquet", row_group_size=17)
    with pytest.raises(Exception, match=r"part-3\.parquet has fewer rows than when it was added"):
        list(dataset)
