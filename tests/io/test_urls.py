"""Files by URL: fsspec's memory and local file systems give what folders of this machine give, in every format."""

import fsspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.orc
import pyarrow.parquet as pq
import pytest

from recis_core.cli import main
from recis_core.cli.data_files import difference, fingerprint
from recis_core.io import dataset_of
from recis_core.io.file_systems import opened, size_of
from recis_core.io.paths import expand
from tests.io.files import ids
from tests.io.files import opened as dataset_on

TABLE = pa.table({"user": list(range(20)), "name": [f"n{i % 3}" for i in range(20)]})


def stream(table, path):
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)


def ipc(table, path):
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)


def gzipped(table, path):
    with pa.OSFile(str(path), "wb") as file, pa.CompressedOutputStream(file, "gzip") as zipped:
        pyarrow.csv.write_csv(table, zipped)


WRITERS = {
    ".parquet": lambda table, path: pq.write_table(table, path, row_group_size=7),
    ".orc": lambda table, path: pyarrow.orc.write_table(table, str(path)),
    ".csv": pyarrow.csv.write_csv,
    ".csv.gz": gzipped,
    ".arrow": ipc,
    ".arrows": stream,
    ".feather": stream,  # told apart by its first bytes
}


@pytest.fixture
def memory():
    fs = fsspec.filesystem("memory")
    yield fs
    fs.store.clear()


def test_every_format_reads_alike_by_path_and_by_url(tmp_path, memory):
    for end, write in WRITERS.items():
        folder = tmp_path / end.strip(".") / "day=7"
        folder.mkdir(parents=True)
        write(TABLE, folder / f"x{end}")
        (folder / "_SUCCESS").write_text("")
        for path in folder.iterdir():
            memory.pipe(f"/{end.strip('.')}/day=7/{path.name}", path.read_bytes())
        urls = [f"memory://{end.strip('.')}", f"file://{folder.parent}", f"simplecache::file://{folder}/x{end}"]
        urls += [f"{urls[0]}/day=*/x{end}", f"{urls[0]}/**/*{end}"]
        for where in [folder.parent, *urls]:
            assert ids(where, "user") == list(range(20)), where
            shuffled = dataset_of(str(where))(6, shuffle=True, seed=3)
            shuffled.add_path(where)
            shuffled.id_feature("user")
            assert sorted(i for batch in shuffled for i in batch["user"].values().tolist()) == list(range(20))
            if where != urls[2]:
                assert ids(where, "day") == [7] * 20


def test_a_url_is_one_file_however_it_is_written(memory):
    memory.pipe("/a/x.csv", b"user\n1\n")
    assert list(expand("memory://a/x.csv", (".csv",))) == list(expand("memory:///a/x.csv", (".csv",)))
    dataset = dataset_on("memory://a/x.csv", "user")
    with pytest.raises(ValueError, match="was added before"):
        dataset.add_path("memory:///a/*.csv")
    assert size_of("memory://a/x.csv") == 7
    with opened("memory://a/x.csv") as file:
        assert file.read(4) == b"user"


def test_urls_that_name_nothing(memory):
    for url, error, said in (
        ("memory://none/x.csv", FileNotFoundError, "'memory://none/x.csv' matches none"),
        ("no-such-thing://a/x.csv", ValueError, "no-such-thing://a/x.csv cannot be opened: Protocol not known"),
    ):
        with pytest.raises(error, match=said):
            dataset_of(url)
    memory.pipe("/a/x.csv", b"user\n1\n")
    dataset = dataset_on("memory://a/x.csv", "user")
    memory.rm("/a/x.csv")
    with pytest.raises(FileNotFoundError, match="x.csv") as refused:
        list(dataset)
    assert refused.value.errno is not None


def test_recis_train_on_a_url_and_its_fingerprint(tmp_path, memory, capsys):
    bits = [n % 2 for n in range(20)]
    pq.write_table(TABLE.append_column("click", pa.array(bits)), tmp_path / "x.parquet")
    memory.pipe("/log/x.parquet", (tmp_path / "x.parquet").read_bytes())
    flags = ["--label", "click", "--backend", "torch", "--dim", "2", "--batch-size", "8", "--json"]
    finals = []
    for data in (f"{tmp_path}/x.parquet", "memory://log/*.parquet"):
        assert main(["train", "--data", data, *flags]) == 0
        finals.append(capsys.readouterr().out.splitlines()[-1].split('"tables_sha256"')[1])
    assert finals[0].split(",")[0] == finals[1].split(",")[0]
    here, there = (fingerprint(where, held_out=True) for where in (f"{tmp_path}/x.parquet", "memory://log"))
    assert difference(here, there) is None
