"""Windows: train on one, test on the next; resumed inside a window and at its end."""

import itertools
import json
import random

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.io.opened_rows import ROWS, TOTAL, opened, rows_of, taken, write, write_all


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("windows"))


def pairs(windows):
    return [(sorted(rows_of(train)), sorted(rows_of(test))) for train, test in windows]


def runs(edges):
    parts = [list(range(a, b)) for a, b in itertools.pairwise(edges)]
    return list(itertools.pairwise(parts))


@pytest.mark.parametrize("shuffle", [False, True])
def test_by_files_rows_and_values(folder, shuffle):
    dataset = opened(folder, shuffle=shuffle)
    assert pairs(dataset.windows(files=2)) == runs([0, ROWS[0], TOTAL])
    assert pairs(dataset.windows(rows=60)) == runs([0, 60, 120, 180, TOTAL])
    days = dataset.windows(column="day")
    assert pairs(days) == runs([0, 40, 80, 120, 160, TOTAL])
    assert (days.names, len(days)) == ([0, 1, 2, 3, 4], 4)
    last = pairs(dataset.windows(rows=60, train_last=True))
    assert last[:-1] == runs([0, 60, 120, 180, TOTAL])
    assert last[-1] == (list(range(180, TOTAL)), [])
    assert sorted(rows_of(dataset)) == list(range(TOTAL))  # as it was


def test_by_the_path(tmp_path):
    for day, begin in ((10, 30), (9, 20), (2, 0)):
        (tmp_path / f"day={day}").mkdir()
        write(tmp_path / f"day={day}" / "x.parquet", begin, 10)
    write(tmp_path / "day=2" / "y.parquet", 10, 10)
    windows = opened(tmp_path).windows(pattern=r"day=(\d+)")
    assert windows.names == ["2", "9", "10"]  # as numbers
    assert pairs(windows) == [(list(range(20)), list(range(20, 30))), (list(range(20, 30)), list(range(30, 40)))]
    with pytest.raises(
        ValueError, match=r"pattern 'hour' must be found in the path of every file; it is not in .*parquet"
    ):
        opened(tmp_path).windows(pattern="hour")


def test_rows_of_a_value_may_lie_anywhere(tmp_path):
    rng = random.Random(0)
    values = [rng.choice("abc") for _ in range(50)]
    pq.write_table(
        pa.table({"row": range(50), "ids": [[]] * 50, "who": values}), tmp_path / "x.parquet", row_group_size=9
    )
    found = pairs(opened(tmp_path).filter(pc.field("row") > 4).windows(column="who"))
    of = {who: [k for k, value in enumerate(values) if value == who and k > 4] for who in "abc"}
    assert found == [(of["a"], of["b"]), (of["b"], of["c"])]


@pytest.mark.parametrize("ways", [{"rows": 30}, {"column": "day"}, {"files": 1}])
def test_stopped_anywhere_each_row_is_trained_once(folder, ways):
    rng = random.Random(str(ways))
    trained, tested, state = [], [], None
    for _ in range(100):
        windows = opened(folder, shuffle=True).windows(**ways)
        if state is not None:
            windows.load_state_dict(state)
        left = rng.randrange(12)
        for train, test in windows:
            for rows, dataset in ((trained, train), (tested, test)):
                for batch in dataset:
                    rows += batch["row"].tolist()
                    left -= 1
                    if left < 0:
                        break
                if left < 0:
                    break
            state = json.loads(json.dumps(windows.state_dict()))
            if left < 0:
                break
        else:
            break
    every = pairs(opened(folder).windows(**ways))
    assert sorted(trained) == sorted(row for train, _ in every for row in train)
    assert sorted(tested) == sorted(row for _, test in every for row in test)


def test_other_numbers_of_workers(folder):
    seen, states = [], []
    for k in range(2):
        windows = opened(folder, (k, 2)).windows(rows=60)
        train, _ = next(iter(windows))
        seen += taken(train, 2)[0]
        states.append(windows.state_dict())
    windows = opened(folder).windows(rows=60)
    windows.load_state_dict(states)
    running = iter(windows)
    assert sorted(seen + rows_of(next(running)[0])) == list(range(60))
    assert rows_of(next(running)[0]) == list(range(60, 120))


def test_wrong_windows(folder, tmp_path):
    dataset = opened(folder)
    for wrong in ({}, {"files": 1, "rows": 2}, {"rows": 0}):
        with pytest.raises(ValueError, match="windows takes one of"):
            dataset.windows(**wrong)
    dataset.window(3, 9)
    with pytest.raises(ValueError, match="with a window"):
        dataset.windows(rows=2)
    with pytest.raises(TypeError, match="windows need a column of single values; 'ids' of .* is list"):
        opened(folder).windows(column="ids")
    with pytest.raises(ValueError, match="has no column 'hour'"):
        opened(folder).windows(column="hour")
    pq.write_table(pa.table({"row": [1, 2], "ids": [[], []], "day": [1, None]}), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="column 'day', row 1 .* windows need a value in every row"):
        opened(tmp_path).windows(column="day")
    windows = opened(folder).windows(rows=60)
    with pytest.raises(ValueError, match="windows must be those of then"):
        windows.load_state_dict(opened(folder).windows(rows=50).state_dict())
    with pytest.raises(ValueError, match="workers must be in one window"):
        windows.load_state_dict([windows.state_dict(), {**windows.state_dict(), "window": 1}])
