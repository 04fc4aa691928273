"""Training to serving, over a file and over TCP: what is served is what was trained."""

import threading
from contextlib import closing

import pytest
import torch

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
from tests.parity.click_log import click_log
from tests.serving.served import assert_served, batches, deepfm


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


def largest_error(codec, rows):
    """How far a codec may put each column [n, 1] of these rows from where it was."""
    top = rows.abs().amax(1, keepdim=True)
    least = 2.0**-25 if codec == "fp16" else 2.0**-63  # half its smallest subnormal; below it rows are zeros
    return (
        top * {"bf16": 2.0**-8, "fp16": 2.0**-11, "fp8": 2.0**-4, "int8": 0.51 / 127, "int4": 0.51 / 7}[codec] + least
    )


@pytest.mark.parametrize("codec", ["bf16", "fp16", "fp8", "int8", "int4"])
def test_rows_in_fewer_bits_are_served_within_the_codecs_error(codec, tmp_path):
    loop, tables = deepfm()
    store = RowStore()
    reader = DeltaReader(store, FileSource(tmp_path / "rows.stream"))
    with (
        DeltaWriter(tables, codec=codec, id_codec="packed") as writer,
        closing(FileSink(tmp_path / "rows.stream")) as sink,
    ):
        for batch in batches(3):
            loop.train_step(batch)
            writer.publish(sink)
    assert reader.poll() == 3
    assert_served(store, tables, lambda got, rows: bool(((got - rows).abs() <= largest_error(codec, rows)).all()))


def test_a_codec_for_each_table(tmp_path):
    loop, tables = deepfm()
    codecs = {name: "fp32" if name.endswith(":linear") else "lossless" for name in tables}
    store = RowStore()
    with DeltaWriter(tables, codec=codecs) as writer, closing(FileSink(tmp_path / "rows.stream")) as sink:
        loop.train_step(batches(1)[0])
        writer.publish(sink)
    DeltaReader(store, FileSource(tmp_path / "rows.stream")).poll()

    def close(got, rows):
        return torch.equal(got, rows if rows.shape[1] == 1 else rows.bfloat16().float())

    assert_served(store, tables, close)


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
