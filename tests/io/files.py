"""Files with a few columns, and what a reader makes of them."""

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from recis_core.io import dataset_of


def write(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def opened(path, *names, batch_size=100):
    dataset = dataset_of(str(path))(batch_size)
    dataset.add_path(path)
    for name in names:
        dataset.id_feature(name)
    return dataset


def ids(path, name):
    return [i for batch in opened(path, name) for i in batch[name].values().tolist()]


def frame():
    return pd.DataFrame(
        {"user": [5, 6, 7], "name": ["a", None, "é"], "day": pd.to_datetime(["2024-01-01 00:00:01"] * 3)}
    )
