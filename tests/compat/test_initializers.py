"""Initializers: RecIS's defaults and fans."""

from __future__ import annotations

import json
import math

import pytest
import torch

from recis_core.compat.recis.nn import initializers
from recis_core.compat.recis.nn.modules.hashtable import HashTable

KINDS = [
    getattr(initializers, name) for name in vars(initializers) if name.endswith("Initializer") and name != "Initializer"
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_generate_draws_by_torchs_generator(kind: type[initializers.Initializer]) -> None:
    random = kind is not initializers.ConstantInitializer
    made = kind(**({"generator": torch.Generator().manual_seed(3)} if random else {}))
    with pytest.raises(RuntimeError, match="build"):
        made.generate()
    made.set_shape([8, 8])
    made.set_dtype()
    made.build()
    with pytest.raises(RuntimeError, match="built already"):
        made.build()
    assert bool((made.generate() != made.generate()).any()) is random
    assert json.loads(str(made))["type"] == kind.__name__


def shaped(kind: type[initializers.Initializer], **arguments: object) -> initializers.Initializer:
    made = kind(**arguments)
    made.set_shape([96, 4])
    return made


def test_fans_are_dim_and_block_size() -> None:
    xavier = shaped(initializers.XavierUniformInitializer).distribution(4)
    assert xavier.b == pytest.approx(math.sqrt(6 / 100))
    assert shaped(initializers.XavierNormalInitializer).distribution(4).b == pytest.approx(math.sqrt(2 / 100))
    kaiming = shaped(initializers.KaimingUniformInitializer, mode="fan_out").distribution(4)
    assert kaiming.b == pytest.approx(math.sqrt(6 / 96))
    assert shaped(initializers.KaimingNormalInitializer).distribution(4).kind == "uniform"
    with pytest.raises(ValueError, match="mode must be"):
        initializers.KaimingUniformInitializer(mode="fan")


def test_tables_take_their_seed_of_the_generator(fresh) -> None:
    def rows(seed: int | None) -> torch.Tensor:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return HashTable([64], initializer=initializers.UniformInitializer(generator=generator), name=fresh("t"))(
            torch.arange(64)
        )

    one = rows(1)
    assert 0 <= one.min() < 0.05
    assert 0.95 < one.max() <= 1
    assert one.mean().item() == pytest.approx(0.5, abs=0.02)
