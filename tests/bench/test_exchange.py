"""The bench of the exchange: bytes against a count by hand, rows, goals; and the goals' byte ratios themselves."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from recis_core.bench.exchange import goals, quality, report, workloads
from recis_core.bench.exchange.codecs import CODECS
from recis_core.bench.exchange.timing import PEER, times, within
from recis_core.bench.exchange.traffic import count, engine_of, owners
from recis_core.bench.exchange.workloads import Workload
from recis_core.channel.agreement import HEAD
from recis_core.ragged import RaggedTensor
from tests.exchange.ranks import run_ranks

# Ids of two fields on two ranks, ↗ where the row lives on the other one:
#   rank 0   x  1↗ 4  1↗     y  3↗ 3↗ 1         4 ids away, 2 of them unique:  x 1, y 3
#   rank 1   x  4↗ 7↗ 7↗     y  3  11↗ 12↗      5 ids away, 4 of them unique:  x 4 7, y 11 12
IDS = [{"x": [1, 4, 1], "y": [3, 3, 1]}, {"x": [4, 7, 7], "y": [3, 11, 12]}]
OWNED = [{"x": [4, 7], "y": [1, 11, 12]}, {"x": [1], "y": [3]}]
AWAY, UNIQUE, DIM = 9, 6, 8
# Packed: a first id of 8 bytes, a width of 1, and 16 bytes for each bit of the largest difference.
PACKED = (8 + 1 + 16 * 2) + (8 + 1 + 16 * 3)
# Both ranks' int64 words of one agreement: its head, a table's counts with two fields, and what the rank wishes.
LINE = 2 * 8 * (HEAD + 5 + 2 + 1)


class ByHand(Workload):
    def __init__(self) -> None:
        self.name, self.rows, self.world, self.steps, self.fields = "by hand", 3, 2, 2, ["x", "y"]

    def step(self, seed: int, number: int, rank: int | None = None) -> dict[str, Any]:
        ids = IDS[rank] if rank is not None else {f: IDS[0][f] + IDS[1][f] for f in self.fields}
        n = len(ids["x"])
        ragged = {f: RaggedTensor(torch.tensor(ids[f]), torch.arange(n + 1)) for f in self.fields}
        return {"label": torch.ones(n), **ragged}


def counted(rank: int, world: int, codecs: list[str]) -> list[dict[str, float]]:
    return [count(ByHand(), rank, codec, DIM, 0) for codec in codecs]


def owned(rank: int, world: int) -> dict[str, list[int]]:
    """Where rows come to live, and that the bench foretells it."""
    engine, batch = engine_of(["x", "y"], DIM, "fp32"), ByHand().step(0, 0, rank)
    engine(batch)
    for field in ("x", "y"):
        assert set(owners(engine, field, engine.table(field).ids().numpy())) == {rank}
    return {field: engine.table(field).ids().tolist() for field in ("x", "y")}


def test_bytes_by_hand() -> None:
    assert run_ranks(2, owned) == OWNED
    row_bytes = {"fp32": 4 * DIM, "bf16": 2 * DIM, "int8": 4 + DIM}
    ranks = run_ranks(2, counted, list(row_bytes))
    assert ranks[0] == ranks[1]
    for found, size in zip(ranks[0], row_bytes.values(), strict=True):
        assert (found["occurrences"], found["unique"]) == (AWAY, UNIQUE)
        assert found["ids_bytes"] == PACKED
        assert found["rows_bytes"] == found["gradients_bytes"] == UNIQUE * size
        assert found["forward_bytes"] == 2 * LINE + PACKED + UNIQUE * size
        # Lines of the flags are agreements too; gradients follow the forward's keys, without ids.
        lines = found["header_bytes"] - 2 * LINE
        assert lines % LINE == 0
        assert found["backward_bytes"] == lines + UNIQUE * size
        assert found["baseline_bytes"] == 2 * AWAY * (8 + 4 * DIM)
        assert found["deduped_baseline_bytes"] == 2 * UNIQUE * (8 + 4 * DIM)


def timed(rank: int, world: int) -> dict[str, Any]:
    return times(Workload("criteo-shape", 64, world, 1), rank, list(CODECS), 16, 1)


def test_every_codec_stands_the_check_before_it_is_timed() -> None:
    found = run_ranks(2, timed)[0]
    assert set(found) == {PEER, *CODECS}
    # Nothing is sent twice or left out: ids and rows forward, gradients back.
    peer = found[PEER]
    ids, rest = divmod(peer["backward_bytes"], 4 * 16)
    assert rest == 0
    assert peer["forward_bytes"] == ids * (8 + 4 * 16) + 2 * 8


def test_the_check_fails_where_a_row_is_off() -> None:
    want = torch.ones(2, 4)
    within("rows", want, want, torch.full((2, 1), 0.01))
    with pytest.raises(AssertionError, match="rows are off by up to"):
        within("rows", want + torch.tensor([[0.0], [0.02]]), want, torch.full((2, 1), 0.01))


def of_criteo_shape(rank: int, world: int) -> dict[str, float]:
    workload = Workload("criteo-shape", 4096, world, 1)
    found = {goal.codec: count(workload, rank, goal.codec, 64, 0) for goal in goals.GOALS}
    return {c: f["baseline_bytes"] / (f["forward_bytes"] + f["backward_bytes"]) for c, f in found.items()}


def test_goals_in_bytes() -> None:
    """Both ways together, against fp32 and int64 without dedup, at 2 ranks × 4,096 rows, D 64."""
    ratios = run_ranks(2, of_criteo_shape)[0]
    for goal in goals.GOALS:
        assert ratios[goal.codec] >= goal.ratio, goal


def facts(control: float = 0.7, fp32: float = 0.899) -> list[dict[str, Any]]:
    """As the ranks would find them."""
    sizes = {"forward_bytes": 100.0, "backward_bytes": 50.0, "header_bytes": 8.0, "ids_bytes": 9.0}
    sizes |= {"baseline_bytes": 1200.0, "deduped_baseline_bytes": 300.0, "occurrences": 9.0, "unique": 6.0}
    found: list[dict[str, Any]] = []
    for codec in ("fp32", "int8"):
        found.append({"part": "traffic", "workload": "click-log", "codec": codec, "seed": 0, **sizes})
    for codec in (PEER, "fp32", "int8"):
        sent = {"forward_bytes": 700.0, "backward_bytes": 600.0} if codec == PEER else {}
        time = {"first_s": 1.0, "step_s": [2.0 if codec == "int8" else 4.0]}
        found.append({"part": "times", "workload": "click-log", "codec": codec, **time, **sent})
    for codec, auc in (("fp32", fp32), ("int8", fp32 - 0.002), (quality.CONTROL, control)):
        found.append({"part": "quality", "codec": codec, "seed": 0, "auc": auc, "bayes_auc": 0.905})
    return found


def test_a_row_says_all() -> None:
    rows = report.rows(facts(), ["click-log"], ["fp32", "int8"])
    assert [row["codec"] for row in rows] == ["fp32", "int8", PEER, quality.CONTROL]
    for row in rows:
        assert set(report.KEYS) <= set(row)
    int8 = rows[1]
    assert (int8["ratio"], int8["forward_ratio"], int8["backward_ratio"]) == (8, 6, 12)
    assert (int8["deduped_ratio"], int8["speedup_over_peer"]) == (2, 2)
    assert int8["auc_fp32"] == 0.899
    assert int8["met"] is False  # 8 of 11, and .002 of .001
    assert "MISSED" in goals.lines(rows)[0]
    goals.check_quality(rows[-1])


@pytest.mark.parametrize(("wrong", "says"), [({"control": 0.898}, "zeroed gradients"), ({"fp32": 0.89}, "Bayes")])
def test_an_auc_that_tells_nothing_is_an_error(wrong: dict[str, float], says: str) -> None:
    control = report.rows(facts(**wrong), ["click-log"], ["fp32", "int8"])[-1]
    with pytest.raises(AssertionError, match=says):
        goals.check_quality(control)


def test_a_missing_click_log_is_a_row_that_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(workloads, "CLICK_LOG", tmp_path)
    assert "RECIS_CLICK_LOG" in str(workloads.missing("click-log"))
    assert workloads.missing("criteo-shape") is None
    assert set(report.KEYS) <= set(report.blank("click-log", None))
