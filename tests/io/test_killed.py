"""Processes that are killed while they read: what others read from their last positions is the rest, each row once."""

import json
import multiprocessing
import os
import signal
import time

import pytest

from tests.io.opened_rows import TOTAL, opened, rows_of, write_all


def read(folder, worker, state, log):
    """Write the position, then the rows, after each batch; hang after some."""
    dataset = opened(folder, (worker, 2), prefetch=2, shuffle=True)
    with open(log, "w", buffering=1) as out:
        for n, batch in enumerate(dataset):
            new = state.with_suffix(".new")
            new.write_text(json.dumps(dataset.state_dict()))
            os.replace(new, state)
            out.write(json.dumps(batch["row"].tolist()) + "\n")
            if n == 4 + worker:
                time.sleep(60)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="forks processes")
def test_killed_readers(tmp_path):
    folder = write_all(tmp_path)
    states, logs = ([tmp_path / f"{k}.{kind}" for k in range(2)] for kind in ("json", "log"))
    start = multiprocessing.get_context("fork").Process
    running = [start(target=read, args=(folder, k, states[k], logs[k])) for k in range(2)]
    for process in running:
        process.start()
    seen = []
    for k, process in enumerate(running):
        while not logs[k].exists() or logs[k].read_text().count("\n") < 5 + k:
            process.join(0.02)
            assert process.exitcode is None
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        seen += [row for line in logs[k].read_text().splitlines() for row in json.loads(line)]
    loaded = [json.loads(state.read_text()) for state in states]
    for k in range(3):
        dataset = opened(folder, (k, 3), shuffle=True)
        dataset.load_state_dict(loaded)
        seen += rows_of(dataset)
    assert sorted(seen) == list(range(TOTAL))
