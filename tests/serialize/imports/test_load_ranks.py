"""load_tables_from on two ranks: each takes the rows that are its own, of every sharding; and they fail together."""

from __future__ import annotations

from typing import Any

import torch

from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseAdam
from recis_core.serialize import arrays_source, load_tables_from
from tests.exchange.ranks import run_ranks

N, D = 300, 4
SHARDINGS = ("row", "column", "replicated", "table:1")


def arrays(name: str = "f", last: float = 0.0, add: float = 0.0) -> Any:
    ids = torch.arange(N) * 7_919_317
    rows = torch.arange(N * D).reshape(N, D).float() + add
    rows[-1, 0] += last
    return arrays_source(name, ids, rows, slots={"m": rows + 0.5, "v": rows * 2}, t=9)


def loading(rank: int, world: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for sharding in SHARDINGS:
        engine = EmbeddingEngine({"f": EmbeddingOption(D, sharding=sharding)})
        optimizer = SparseAdam(engine.sparse_parameters())
        taken = load_tables_from(arrays(), engine, optimizer=optimizer, replace=True).rows["f"]
        table = engine.table("f")
        looked_up, there = table.lookup(torch.arange(N) * 7_919_317)
        slot = table.slot_group().slot_by_name("v")
        found[sharding] = (taken, looked_up.tolist(), bool(there.all()), list(slot.shape), float(slot.sum()))
        found[f"{sharding} t"] = optimizer.state_dict()["t"]
    before = rows_of(engine.table("f"))
    for replace in (True, False):
        try:
            load_tables_from(arrays(last=float("inf") if rank == 1 else 0.0, add=1), engine, replace=replace)
        except Exception as error:
            found[f"error {replace}"] = f"{type(error).__name__}: {error}"
        found[f"as before {replace}"] = rows_of(engine.table("f")) == before
    return found


def rows_of(table: Any) -> list[Any]:
    """[id, row, slots] of what is on this rank, by id."""
    rows = table.snapshot()
    columns = torch.cat([rows.weights, rows.slots["m"], rows.slots["v"]], 1).tolist()
    return sorted([i, *each] for i, each in zip(rows.ids.tolist(), columns, strict=True))


def test_two_ranks() -> None:
    one, other = run_ranks(2, loading)
    wanted = torch.arange(N * D).reshape(N, D).float()
    for sharding in SHARDINGS:
        for mine in (one, other):
            assert mine[sharding][1] == wanted.tolist()
            assert mine[sharding][2]
            assert mine[f"{sharding} t"] == {"f": 9}
        taken, sums = (sorted(mine[sharding][k] for mine in (one, other)) for k in (0, 4))
        times = 2 if sharding == "replicated" else 1
        assert sum(sums) == times * float(wanted.sum()) * 2
        assert taken == {"row": taken, "column": [N, N], "replicated": [N, N], "table:1": [0, N]}[sharding]
        assert sum(taken) == N or sharding in ("column", "replicated")
    for replace in (True, False):
        assert "row 299 of table 'f'" in other[f"error {replace}"]
        assert one[f"error {replace}"].startswith("ExchangeMismatch")
        assert one[f"as before {replace}"]
        assert other[f"as before {replace}"]
