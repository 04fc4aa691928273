"""What waits for rows that were cleared or replaced goes with them on all ranks; a load that one refuses none takes."""

from typing import Any

import torch

from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseSGD
from tests.exchange.ranks import run_ranks

IDS = torch.tensor([1, 2, 3, 4, 5, 6])


def _engine(**options: Any) -> tuple[EmbeddingEngine, SparseSGD]:
    engine = EmbeddingEngine({"a": EmbeddingOption(4, **options)})
    return engine, SparseSGD(engine.sparse_parameters(), lr=1.0)


def _step(engine: EmbeddingEngine, optimizer: SparseSGD) -> dict[int, float]:
    """By how much a step lowers each row that is here."""
    table = engine.table("a")
    before = dict(zip(table.ids().tolist(), table.embeddings()[:, 0].tolist(), strict=True))
    optimizer.step()
    after = dict(zip(table.ids().tolist(), table.embeddings()[:, 0].tolist(), strict=True))
    return {i: round(before.get(i, 0) - after[i], 4) for i in after if before.get(i) != after[i]}


def clears(rank: int, world: int, precision: str, sharding: str) -> list[dict[int, float]]:
    engine, optimizer = _engine(precision=precision, sharding=sharding)
    for _ in range(2):  # leaves residuals, where the codec does
        (engine({"a": IDS})["a"] * torch.tensor([1.0, 0.3, 0.2, 0.1])).sum().backward()
        optimizer.step()
    later = engine({"a": IDS})["a"].sum()
    engine({"a": IDS})["a"].sum().backward()
    engine.table("a").clear()
    residuals = engine.table("a").physical.residuals
    assert residuals is None or not len(residuals.snapshot().ids)
    engine({"a": IDS})
    later.backward()
    changes = [_step(engine, optimizer)]
    engine({"a": IDS[:2]})["a"].sum().backward()
    return [*changes, _step(engine, optimizer)]


def test_clear_drops_what_was_to_come() -> None:
    for precision, sharding in (
        ("fp32", "row"),
        ("backward=int8+ef", "row"),
        ("fp32", "column"),
        ("fp32", "replicated"),
    ):
        ranks = run_ranks(2, clears, precision, sharding)
        assert [first for first, _ in ranks] == [{}, {}], (precision, sharding)
        trained = {i for _, second in ranks for i in second}
        assert trained == {1, 2}, (precision, sharding)


def loads(rank: int, world: int) -> tuple[str, list[int], list[int]]:
    engine, _ = _engine()
    engine({"a": IDS})
    before = engine.table("a").ids().tolist()
    other, _ = _engine()
    other({"a": IDS + 100})
    state = other.state_dict()
    wrong = {k: v.double() if rank and k.endswith("rows") else v for k, v in state.items()}
    said = "nothing"
    try:
        engine.load_state_dict(wrong)
    except RuntimeError as error:
        said = str(error)
    kept = engine.table("a").ids().tolist()
    assert kept == before
    engine.load_state_dict(state)
    return said, engine.table("a").ids().tolist(), other.table("a").ids().tolist()


def test_a_load_that_one_rank_refuses_none_takes() -> None:
    (first, *taken), (second, *others) = run_ranks(2, loads)
    assert "rank(s) [1] refuse theirs" in first
    assert "torch.float64" in second
    for got, want in (taken, others):
        assert got == want
        assert got
