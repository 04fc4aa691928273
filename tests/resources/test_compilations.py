"""A hundred batches of a hundred sizes compile one program a rung, and no more.

Sizes: N ids, B bags.
"""

import math

import pytest
import torch

from recis_core import backends
from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseAdam
from recis_core.ragged import RaggedTensor

LARGEST = 1000
FLOOR = 64
PROGRAMS = 6  # of a step: seek, write_initial and pool (or embed, which is all three), embed_grad, measure, update


def a_hundred_sizes(engine, optimizer):
    draw = torch.Generator().manual_seed(0)
    for n in torch.randperm(LARGEST, generator=draw)[:100].tolist():
        ends = torch.randint(0, n + 1, (max(1, n // 4),), generator=draw).sort().values
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), ends, torch.tensor([n])])
        ids = torch.randint(0, 500, (n,), generator=draw)
        optimizer.zero_grad()
        engine({"f": RaggedTensor(ids, offsets)})["f"].sum().backward()
        optimizer.step()


@pytest.mark.parametrize("name", ["torch", "numba", "jax"])
def test_programs_are_bounded_by_rungs(name):
    engine = EmbeddingEngine({"f": EmbeddingOption(8, backend=name)})
    optimizer = SparseAdam(engine.sparse_parameters())
    engine({"f": torch.arange(500)})  # capacity stays as it is from here on
    backend = backends.get(name)
    before = backend.programs()
    a_hundred_sizes(engine, optimizer)
    rungs = math.ceil(math.log2(LARGEST / FLOOR)) + 1
    compiled = backend.programs() - before
    assert compiled <= rungs * PROGRAMS
    assert (compiled == 0) == (name != "jax")
    again = backend.programs()
    a_hundred_sizes(engine, optimizer)
    assert backend.programs() == again


def every_codec_stage(backend, n, codec):
    values, ids = torch.randn(n, 8), torch.arange(n)
    noise = backends.RowNoise(1, ids, ids, n) if codec.stochastic else None
    sent = backend.encode(values, values, codec=codec, noise=noise)
    backend.decode(sent.codes, codec=codec, dim=8, tail=sent.tail)
    backend.select_rows(values, n // 3)
    backend.unpack_ids(backend.pack_ids(ids), n)


@pytest.mark.parametrize("codec", [backends.RowCodec("int8", stochastic=True), backends.RowCodec("lossless")], ids=str)
@pytest.mark.parametrize("name", ["torch", "numba", "jax"])
def test_codec_programs_are_bounded_by_rungs(name, codec):
    backend, stages = backends.get(name), 5
    before = backend.programs()
    for n in torch.randperm(LARGEST, generator=torch.Generator().manual_seed(0))[:100].tolist():
        every_codec_stage(backend, n, codec)
    rungs = math.ceil(math.log2(LARGEST / FLOOR)) + 1
    assert backend.programs() - before <= rungs * stages
    again = backend.programs()
    every_codec_stage(backend, LARGEST - 1, codec)
    assert backend.programs() == again
