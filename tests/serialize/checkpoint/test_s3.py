"""Checkpoints on S3: s3fs beside a server of moto's, in an environment of their own: make test-s3."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import fsspec
import pytest
import torch

from recis_core.errors import CorruptCheckpoint
from recis_core.serialize import TableBlock, latest_state, new_checkpoint, open_checkpoint
from tests.serialize.checkpoint.runs import Run, deltas_go_round

moto = pytest.importorskip("moto.server", reason="moto is not installed here; make test-s3 runs this where it is")
pytest.importorskip("s3fs", reason="s3fs is not installed here; make test-s3 runs this where it is")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Its URL."""
    running = moto.ThreadedMotoServer("127.0.0.1", port=0)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def url(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A directory in a new bucket."""
    given = {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "y",
        "AWS_DEFAULT_REGION": "eu-west-1",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3").clear_instance_cache()
    bucket = f"recis-{secrets.token_hex(6)}"
    fsspec.filesystem("s3").mkdir(bucket, region_name="eu-west-1")
    return f"s3://{bucket}/runs/one"


def test_deltas_are_saved_pruned_and_restored(url: str) -> None:
    with pytest.raises(FileNotFoundError, match="holds no saved state"):
        latest_state(url)
    deltas_go_round(url)


def test_a_file_of_many_parts(url: str) -> None:
    """Above what s3fs sends in one request."""
    rows = torch.rand(40_000, 512)
    with new_checkpoint(url, 1, file_bytes=1 << 27) as writer:
        writer.table("user", [TableBlock(torch.arange(40_000), rows, {}, {})], dim=512)
    [block] = open_checkpoint(url).blocks("user", 40_000)
    assert torch.equal(block.rows, rows)


def test_damage_and_what_is_gone_are_named(url: str) -> None:
    run = Run()
    run.step([1])
    manager = run.manager(url)
    manager.save(1)
    manager.close()
    fs = fsspec.filesystem("s3")
    for name in fs.find(url):
        good = fs.cat_file(name)
        if good:
            fs.pipe_file(name, good[:-1] + bytes([good[-1] ^ 1]))
            with pytest.raises(CorruptCheckpoint, match=name.rpartition("/")[2]):
                open_checkpoint(url).verify()
        if not name.endswith("manifest.json"):
            fs.rm_file(name)
            with pytest.raises(CorruptCheckpoint, match=f"lacks {name.rpartition('/')[2]}"):
                open_checkpoint(url).verify()
        fs.pipe_file(name, good)
    open_checkpoint(url).verify()


def test_a_server_that_is_gone_is_an_error_of_the_next_call_and_training_goes_on(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run()
    run.step([1])
    manager = run.manager(url, asynchronous=False)
    manager.save(1)

    def refused(*_: Any, **__: Any) -> Any:
        from botocore.exceptions import EndpointConnectionError

        raise EndpointConnectionError(endpoint_url="http://gone")

    with monkeypatch.context() as gone:
        for verb in ("info", "open", "makedirs", "pipe_file", "ls"):
            gone.setattr(fsspec.filesystem("s3"), verb, refused)
        run.step([2])
        with pytest.raises(OSError, match="s3://.*EndpointConnectionError"):
            manager.save(2)
        with pytest.raises(OSError, match="s3://.*EndpointConnectionError"):
            latest_state(url)
    run.step([3])
    manager.save(3)
    manager.close()
    assert manager.steps() == [1, 3]
