"""Which rows come in which batch: filters at the scan, shuffles, batches by cost."""

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.orc
import pyarrow.parquet as pq
import pytest

from recis_core.io import OrcDataset, ParquetDataset, SyntheticClicks, dataset_of
from recis_core.io.file_format import ParquetFormat
from tests.io.opened_rows import TOTAL, opened, rows_of, taken, write, write_all


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("batched"))


# Filters


def test_a_filter_reads_only_row_groups_that_can_match(folder, monkeypatch):
    read, plain = [], ParquetFormat.read_piece
    monkeypatch.setattr(ParquetFormat, "read_piece", lambda *a: read.append(a[2]) or plain(*a))
    dataset = opened(folder).filter((pc.field("day") == 1) & (pc.bit_wise_and(pc.field("row"), 1) == 0))
    batches = list(dataset)
    assert rows_of(batches) == list(range(40, 80, 2))
    assert [len(batch["row"]) for batch in batches] == [7, 7, 6]
    assert set(batches[0]) == {"row", "ids"}
    assert len(read) == 4  # of 13
    with pytest.raises(TypeError, match="the number of batches is not known"):
        len(dataset)


@pytest.mark.parametrize("options", [{}, {"shuffle": True}, {"shuffle": True, "shuffle_buffer": 30}])
def test_a_filter_keeps_the_order_of_the_rows_it_keeps(folder, options):
    whole = rows_of(opened(folder, **options))
    kept = rows_of(opened(folder, **options).filter(pc.field("row") > 33).filter(pc.field("day") != 3))
    assert kept == [row for row in whole if row > 33 and row // 40 != 3]
    assert sorted(whole) == list(range(TOTAL))


def test_filters_by_folders_text_lists_and_other_formats(tmp_path):
    for year in (2023, 2024):
        (tmp_path / f"year={year}").mkdir()
        table = pa.table({"who": ["a", None, "c"], "tags": [[1], [], [year]], "n": pa.array([1, 2, 3], pa.int32())})
        pq.write_table(table, tmp_path / f"year={year}" / "x.parquet")
        pa.orc.write_table(table, tmp_path / f"{year}.orc")

    def ids(kind, expression):
        dataset = dataset_of(str(tmp_path / kind))(10)
        dataset.add_path(str(tmp_path / kind))
        dataset.id_feature("tags")
        return [i for batch in dataset.filter(expression) for i in batch["tags"].values().tolist()]

    assert ids("**/*.parquet", (pc.field("year") == 2024) & (pc.field("n") > 1)) == [2024]
    assert ids("**/*.parquet", pc.field("who") == "a") == [1, 1]
    assert ids("*.orc", pc.field("who").is_valid()) == [1, 2023, 1, 2024]
    assert ids("*.orc", pc.list_value_length(pc.field("tags")) == 0) == []


def test_wrong_filters_are_refused(folder):
    with pytest.raises(
        ValueError, match=r"part-0.parquet cannot be filtered by .*No match for .*\(z\)\. It has row, ids, day"
    ):
        opened(folder).filter(pc.field("z") == 1)
    with pytest.raises(ValueError, match="no kernel matching input types"):
        opened(folder).filter(pc.field("row") == pc.field("ids"))
    with pytest.raises(TypeError, match="SyntheticDataset filters batches by a function; got Expression"):
        SyntheticClicks("tiny").dataset(4).filter(pc.field("p") > 0)


# Shuffles


def test_a_buffer_mixes_rows_of_neighbouring_files(folder):
    orders = [rows_of(opened(folder, shuffle_buffer=50, seed=k)) for k in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    blocks = [orders[0][k : k + 50] for k in range(0, TOTAL, 50)]
    assert [sorted(block) for block in blocks] == [list(range(k, min(k + 50, TOTAL))) for k in range(0, TOTAL, 50)]
    dataset = opened(folder, shuffle_buffer=50)
    assert rows_of(dataset) != rows_of(dataset)  # another epoch
    assert rows_of(opened(folder, shuffle_buffer=10**6, shuffle=True)) != rows_of(opened(folder, shuffle=True))


def test_errors_after_a_shuffle_name_the_row(tmp_path):
    write(tmp_path / "x.parquet", 0, 40)
    dataset = opened(tmp_path, shuffle=True, shuffle_buffer=40)
    dataset.fixedlen_feature("ids", [0, 0, 0])
    with pytest.raises(ValueError, match=r"x.parquet, column 'ids', row \d+ .*must hold 3 values") as error:
        list(dataset)
    row = int(str(error.value).split("row ")[1].split()[0])
    assert row % 5 in (1, 2, 4)


# Batches by cost


@pytest.mark.parametrize("budget", [1, 4, 9, 1000])
def test_batches_are_full_by_ids(folder, budget):
    batches = list(opened(folder).batch_by_cost(["ids"], budget))
    assert rows_of(batches) == list(range(TOTAL))
    costs = [len(batch["ids"].values()) for batch in batches]
    for batch, cost, after in zip(batches, costs, batches[1:], strict=False):
        assert cost <= budget or len(batch["row"]) == 1
        assert cost + len(after["ids"].rows(0, 1).values()) > budget  # the next row did not fit


def test_rows_above_the_budget_and_other_limits(folder):
    with pytest.raises(ValueError, match="at most 3 ids of 'ids', as batch_by_cost says; one holds 4"):
        list(opened(folder).batch_by_cost(["ids"], 3, oversize="error"))
    rows = opened(folder).batch_by_cost(["ids", "row"], 10**6, most_rows=50)
    assert [len(batch["row"]) for batch in rows] == [50, 50, 50, 48]
    dropped = opened(folder, drop_remainder=True).batch_by_cost(["ids"], 10**6, most_rows=50)
    assert [len(batch["row"]) for batch in dropped] == [50, 50, 50]
    with pytest.raises(ValueError, match="budget >= 1"):
        opened(folder).batch_by_cost(["ids"], 0)


def test_drop_remainder_with_a_filter(folder):
    dataset = opened(folder, batch_size=20, drop_remainder=True).filter(pc.field("row") < 50)
    assert [len(batch["row"]) for batch in dataset] == [20, 20]
    seen, _ = taken(dataset, 1)
    dataset.go_on()
    assert seen + rows_of(dataset) == list(range(40))


def test_an_orc_file_of_several_stripes(tmp_path):
    table = pa.table({"row": pa.array(range(3000), pa.int64())})
    with pa.orc.ORCWriter(tmp_path / "x.orc", stripe_size=1, batch_size=100) as writer:
        writer.write(table)
    dataset = OrcDataset(64, prefetch=0)
    dataset.add_path(tmp_path / "x.orc")
    dataset.fixedlen_feature("row", 0)
    assert rows_of(dataset.filter(pc.bit_wise_and(pc.field("row"), 3) == 0)) == list(range(0, 3000, 4))


# Columns whose lists are equally long


@pytest.mark.parametrize("kind", [pa.list_, pa.large_list])
def test_columns_of_equal_lengths_share_offsets_in_every_batch(tmp_path, kind):
    lengths = [2, 0, 1, 3, 1, 1, 0, 2, 2, 1, 4]
    columns = {
        "a": [[10 * n + k for k in range(length)] for n, length in enumerate(lengths)],
        "b": [[-n] * length for n, length in enumerate(lengths)],
        "other": [
            [n] * length for n, length in enumerate(reversed(lengths))
        ],  # as many values, ending at the same offset
        "nulls": [[n] if length else None for n, length in enumerate(lengths)],
        "one": list(range(len(lengths))),
        "number": [n + 0.5 for n in range(len(lengths))],
    }
    table = pa.table({n: pa.array(v, kind(pa.int64()) if isinstance(v[0], list) else None) for n, v in columns.items()})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=4)
    dataset = ParquetDataset(3)
    dataset.add_path(tmp_path / "x.parquet")
    for name in columns:
        dataset.varlen_feature(name)
    batches = list(dataset)
    for name, column in columns.items():
        rows = [row.tolist() for b in batches for row in b[name].values().tensor_split(b[name].offsets()[0][1:-1])]
        assert rows == [row if isinstance(row, list) else [] if row is None else [row] for row in column]
    for batch in batches:  # of one row group, and of two
        offsets = {name: batch[name].offsets()[0] for name in columns}
        assert offsets["a"] is offsets["b"]
        assert offsets["one"] is offsets["number"]
        assert len({id(offsets[name]) for name in ("a", "other", "nulls", "one")}) == 4
