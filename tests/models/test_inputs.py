"""What models take out of a batch: each input that is missing, or of another kind, is named, and no row is made for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from recis_core.models import DIN, DLRM, HSTU, DeepFM, MMoE, Retrieval, SASRec, TwoTower
from recis_core.nn import filter_out_sparse_param
from recis_core.ragged import RaggedTensor

IDS = torch.tensor([2**60, 7, 7])
EVENTS = RaggedTensor(torch.tensor([7, 8, 2**60, 9]), torch.tensor([0, 2, 2, 4]))
FIELDS = {"user": IDS, "item": IDS + 1}
DENSE = {"dense": torch.randn(3, 2)}
NEXT = {"history": EVENTS, "candidates": torch.tensor([7, 8])}
TIMES = {"timestamps": RaggedTensor(torch.arange(4), EVENTS.offsets()[0])}


def towers() -> TwoTower:
    return TwoTower(["user"], ["item"], 4)


MODELS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "DeepFM": (lambda: DeepFM(FIELDS, 4, dense=2), FIELDS | DENSE),
    "DLRM": (lambda: DLRM(FIELDS, 4, dense=2), FIELDS | DENSE),
    "MMoE": (lambda: MMoE(FIELDS, ["click", "buy"], 4, dense=2), FIELDS | DENSE),
    "DIN": (lambda: DIN(list(FIELDS), 4, dense=2), FIELDS | {"history": EVENTS} | DENSE),
    "TwoTower": (towers, FIELDS),
    "Retrieval": (lambda: Retrieval(towers()), FIELDS),
    "SASRec": (lambda: SASRec(4, layers=1), NEXT),
    "HSTU": (lambda: HSTU(4, layers=1, times=True), NEXT | TIMES),
}


def rows(model: nn.Module) -> int:
    return sum(len(table) for table in filter_out_sparse_param(model).values())


@pytest.mark.parametrize("name", MODELS)
def test_an_input_that_is_missing_is_named(name: str) -> None:
    make, batch = MODELS[name]
    model = make()
    for left_out in batch:
        with pytest.raises(KeyError, match=rf"\['{left_out}'\] are missing; got") as told:
            model({key: column for key, column in batch.items() if key != left_out})
        assert all(key in str(told.value) for key in batch)
    with pytest.raises(TypeError, match=r"a batch must be a dict of columns by name, .*; got tuple"):
        model(tuple(batch.values()))
    assert rows(model) == 0
    model(batch)
    assert rows(model) > 0


@pytest.mark.parametrize("name", [name for name, (_, batch) in MODELS.items() if "dense" in batch])
def test_dense_columns_of_another_kind(name: str) -> None:
    make, batch = MODELS[name]
    model = make()
    for wrong, error, words in (
        (torch.zeros(3, 3), ValueError, r"\[B, 2\].* got \[3, 3\]"),
        (torch.zeros(3), ValueError, r"\[B, 2\].* got \[3\]"),
        (torch.zeros(3, 2, dtype=torch.int64), TypeError, r"floats \[B, 2\]; got torch.int64"),
        ([[0.0, 0.0]], TypeError, r"floats \[B, 2\]; got list"),
    ):
        with pytest.raises(error, match=words):
            model(batch | {"dense": wrong})
    assert rows(model) == 0


def test_histories_that_do_not_fit_make_no_row() -> None:
    short, timed = SASRec(4, layers=1, max_length=1), HSTU(4, layers=1, times=True)
    with pytest.raises(ValueError, match="a history has 2 ids"):
        short(NEXT)
    for wrong, error, words in (
        (torch.arange(4), TypeError, "got Tensor"),
        (NEXT["history"].with_values(torch.zeros(4)), TypeError, "got torch.float32"),
        (NEXT["history"].with_values(torch.zeros(4, 1, dtype=torch.int64)), ValueError, r"got \[4, 1\]"),
    ):
        with pytest.raises(error, match=f'"timestamps" must be .* {words}'):
            timed(NEXT | {"timestamps": wrong})
    assert rows(short) == rows(timed) == 0
