"""What the exchange is to reach, and whether a row does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

BAYES = 0.01  # fp32 must come so near to the best AUC there is, or the comparison says nothing


@dataclass(frozen=True)
class Goal:
    """ratio: times fewer bytes than fp32 and int64 without dedup, both ways together. auc: how far from fp32's at most."""

    codec: str
    ratio: float
    auc: float


GOALS = (
    Goal("bf16", 6, 0.0005),
    Goal("int8", 11, 0.001),
    Goal("forward=int8,backward=int4+ef", 15, 0.001),
    Goal("forward=int8,backward=topk(10%,int8)+ef", 20, 0.002),
)


def off(row: dict[str, Any]) -> float:
    """How far the AUC is from fp32's, of the worst seed."""
    return max(abs(a - b) for a, b in zip(row["auc_by_seed"], row["auc_fp32_by_seed"], strict=True))


def verdict(row: dict[str, Any]) -> dict[str, Any]:
    """What a row with a goal carries beside its numbers; `met` is None where its AUC was not measured."""
    goal = next((g for g in GOALS if g.codec == row["codec"]), None)
    if goal is None:
        return {}
    met = row["ratio"] >= goal.ratio
    if row["auc"] is not None:
        met = met and off(row) <= goal.auc
    said = {"goal_ratio": goal.ratio, "goal_auc_off": goal.auc}
    return said | {"met": None if met and row["auc"] is None else met}


def check_quality(control: dict[str, Any]) -> None:
    """Raises AssertionError unless AUCs can tell: fp32 is near Bayes, and a model that learns no rows fails every goal."""
    for bayes, fp32 in zip(control["bayes_auc_by_seed"], control["auc_fp32_by_seed"], strict=True):
        if bayes - fp32 > BAYES:
            raise AssertionError(f"fp32 reaches AUC {fp32:.4f}, Bayes {bayes:.4f}: train on more rows (--train-rows).")
    nearest = min(f - a for f, a in zip(control["auc_fp32_by_seed"], control["auc_by_seed"], strict=True))
    if nearest <= max(goal.auc for goal in GOALS):
        raise AssertionError(f"zeroed gradients lose only {nearest:.4f} AUC: the criterion tells nothing.")


def lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Each goal in words."""
    return [_line(row) for row in rows if "goal_ratio" in row]


def _line(row: dict[str, Any]) -> str:
    word = {True: "met", False: "MISSED", None: "bytes met, AUC not measured"}[row["met"]]
    auc = "" if row["auc"] is None else f", AUC off by {off(row):.5f} at worst of ≤ {row['goal_auc_off']}"
    return f"{row['workload']}: {row['codec']}: {row['ratio']:.2f}× of ≥ {row['goal_ratio']}×{auc}: {word}"
