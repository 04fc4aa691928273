"""Under torch's DataLoader and torchdata's: each row once, by fork and by spawn; positions, and who knows them."""

import os
import random
import threading

import pytest
import torch
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from recis_core.io import MixedDataset
from tests.io.opened_rows import TOTAL, doubled, opened, rows_of, write_all

pytestmark = [
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),  # torchdata 0.11 calls it
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),  # more workers than cores
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("loaded"))


@pytest.mark.parametrize(("how", "workers"), [("fork", 3), ("spawn", 1)])
def test_each_row_once(folder, how, workers):
    shares = [opened(folder, (k, 2), prefetch=1, shuffle=True).map(doubled) for k in range(2)]
    if how == "spawn":
        shares[1:] = []
    seen = []
    for share in shares:
        for batch in DataLoader(share, batch_size=None, num_workers=workers, multiprocessing_context=how):
            assert torch.equal(batch["double"], batch["row"] * 2)
            assert len(batch["ids"]) == len(batch["row"])
            assert batch["ids"].values().untyped_storage().nbytes() == batch["ids"].values().nbytes
            seen += batch["row"].tolist()
        with pytest.raises(ValueError, match="DataLoader workers read this dataset, and this process does not know"):
            share.state_dict()
        list(share)
        assert share.ended  # read here again, so known here
    assert len(seen) == len(set(seen)) == (TOTAL if how == "fork" else TOTAL // 2)


def test_epochs_of_persistent_workers_differ_and_others_need_set_epoch(folder):
    dataset = opened(folder, shuffle=True)
    with_workers = DataLoader(dataset, batch_size=None, num_workers=1, persistent_workers=True)
    epochs = [rows_of(with_workers) for _ in range(2)]
    del with_workers
    plain = DataLoader(dataset, batch_size=None, num_workers=1)
    assert rows_of(plain) == epochs[0]
    dataset.set_epoch(1)
    assert rows_of(plain) == epochs[1] != epochs[0]


@pytest.mark.parametrize("mixed", [False, True])
def test_a_stateful_loader_resumes(folder, mixed):
    """The same workers by the loader; others by load_state_dict of the dataset."""

    def dataset():
        one = opened(folder, shuffle=True)
        return MixedDataset({"a": (one, 1.0)}) if mixed else one

    def loader(data, workers=2):
        return StatefulDataLoader(data, batch_size=None, num_workers=workers)

    whole = rows_of(loader(dataset()))
    first = loader(dataset())
    running = iter(first)
    seen = rows_of([next(running) for _ in range(random.Random(mixed).randrange(1, 12))])
    state = first.state_dict()
    del running
    same = loader(dataset())
    same.load_state_dict(state)
    assert seen + rows_of(same) == whole
    for workers in (0, 3):
        other = dataset()
        other.load_state_dict(state)
        rest = rows_of(other if workers == 0 else DataLoader(other, batch_size=None, num_workers=workers))
        assert sorted(seen + rest) == list(range(TOTAL))


def test_a_stateful_loader_without_workers(folder):
    first = StatefulDataLoader(opened(folder), batch_size=None)
    running = iter(first)
    seen = rows_of([next(running) for _ in range(4)])
    again = StatefulDataLoader(opened(folder), batch_size=None)
    again.load_state_dict(first.state_dict())
    assert seen + rows_of(again) == list(range(TOTAL))
    alone = opened(folder)
    alone.load_state_dict(first.state_dict())
    assert rows_of(alone) == list(range(28, TOTAL))


def test_a_loader_that_saves_rarely_is_refused_for_others(folder):
    loader = StatefulDataLoader(opened(folder), batch_size=None, num_workers=1, snapshot_every_n_steps=3)
    running = iter(loader)
    for _ in range(4):
        next(running)
    with pytest.raises(ValueError, match="the StatefulDataLoader's state is 1 steps old"):
        opened(folder).load_state_dict(loader.state_dict())


def test_no_thread_is_left(folder):
    before = set(threading.enumerate())
    for leave in ("break", "error", "close", "interrupt"):
        dataset = opened(folder, batch_size=1, prefetch=2, read_threads_num=3)
        try:
            for batch in dataset:
                if leave == "break":
                    break
                if leave == "error":
                    raise ZeroDivisionError
                if leave == "interrupt":
                    raise KeyboardInterrupt
                dataset.close()
                assert len(batch["row"]) == 1
        except (ZeroDivisionError, KeyboardInterrupt):
            pass
        assert set(threading.enumerate()) <= before, leave
        dataset.go_on()
        assert rows_of(dataset) == list(range(1, TOTAL)), leave


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files in /proc")
def test_ten_passes_leave_what_was_there(folder):
    dataset = opened(folder, prefetch=2, read_threads_num=2, shuffle=True, shuffle_buffer=20)
    list(dataset)
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(10):
        list(dataset)
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before
