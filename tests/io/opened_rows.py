"""Small files of numbered rows, and data sets that read them without threads."""

import pyarrow as pa
import pyarrow.parquet as pq

from recis_core.io import ParquetDataset

ROWS = (61, 0, 47, 90)  # of each file
TOTAL = sum(ROWS)


def write(path, begin, rows, group=17):
    numbers = list(range(begin, begin + rows))
    lists = pa.array([[n] * (n % 5) for n in numbers], pa.list_(pa.int64()))
    days = pa.array([n // 40 for n in numbers], pa.int32())
    pq.write_table(
        pa.table({"row": pa.array(numbers, pa.int64()), "ids": lists, "day": days}), path, row_group_size=group
    )


def write_all(folder):
    begin = 0
    for k, rows in enumerate(ROWS):
        write(folder / f"part-{k}.parquet", begin, rows)
        begin += rows
    return folder


def opened(path, where=(0, 1), batch_size=7, **options):
    dataset = ParquetDataset(batch_size, *where, **{"prefetch": 0, "read_threads_num": 1, **options})
    dataset.add_path(path)
    dataset.fixedlen_feature("row", 0)
    dataset.varlen_feature("ids")
    return dataset


def rows_of(batches):
    return [int(row) for batch in batches for row in batch["row"]]


def taken(dataset, batches):
    """Rows of the next so many batches; the iterator is left open, as by a process that is killed."""
    running = iter(dataset)
    rows = [next(running) for _ in range(batches)]
    return rows_of(rows), running


def doubled(batch):
    return {**batch, "double": batch["row"] * 2}
