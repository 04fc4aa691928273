"""Training to serving, over a file and over TCP: what is served is what was trained."""

import threading
from contextlib import closing

from recis_core.cli.source import open_source
from recis_core.cli.train_config import TrainConfig
from recis_core.exchange.stream import (
    DeltaReader,
    DeltaWriter,
    FileSink,
    FileSource,
    RowStore,
    SocketSink,
    SocketSource,
)
from tests.exchange.served import assert_served, batches, deepfm
from tests.parity.click_log import click_log


def test_a_model_in_training_is_served_bit_for_bit_over_file_and_socket(tmp_path):
    loop, tables = deepfm()
    stores = RowStore(), RowStore(backend="torch")
    file_reader = DeltaReader(stores[0], FileSource(tmp_path / "rows.stream"))
    with closing(SocketSource()) as source, DeltaWriter(tables) as writer:
        serving = threading.Thread(target=DeltaReader(stores[1], source).wait_for, args=(4, 60.0))
        serving.start()
        with closing(FileSink(tmp_path / "rows.stream")) as file, closing(SocketSink(source.port)) as tcp:
            for version, batch in enumerate(batches(4), start=1):
                loop.train_step(batch)
                assert writer.publish(file, tcp) == version
                assert file_reader.poll() == version
                assert_served(stores[0], tables)
            serving.join(60.0)
    assert stores[1].position() == (writer.stream, 4)
    assert_served(stores[1], tables)


def test_the_click_log_is_served_bit_for_bit(tmp_path):
    config = TrainConfig(data=click_log(), label="label", batch_size=2048)
    source = open_source(config)
    loop, tables = deepfm(fields=source.fields, dense=source.dense)
    store = RowStore()
    reader = DeltaReader(store, FileSource(tmp_path / "rows.stream"))
    with DeltaWriter(tables, id_codec="packed") as writer, closing(FileSink(tmp_path / "rows.stream")) as sink:
        for batch in source.train_batches(config.batch_size):
            loop.train_step(batch)
            if loop.step % 3 == 0:
                writer.publish(sink)
        last = writer.publish(sink)
    assert loop.step == 18
    assert reader.poll() == last
    assert_served(store, tables)
