"""From facts the ranks found to result rows: one a workload and codec."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from recis_core.bench.exchange import goals, quality
from recis_core.bench.exchange.timing import PEER

KEYS = (
    "workload",
    "codec",
    "forward_bytes",
    "backward_bytes",
    "baseline_bytes",
    "ratio",
    "auc",
    "auc_fp32",
    "step_ms",
)
MORE = ("forward_ratio", "backward_ratio", "deduped_baseline_bytes", "deduped_ratio", "header_bytes", "ids_bytes")

Fact = dict[str, Any]


def rows(facts: Sequence[Fact], workloads: Sequence[str], codecs: Sequence[str]) -> list[Fact]:
    """Rows of each workload, the peer's among them, then the control's; without provenance."""
    found = []
    for workload in workloads:
        found += [_row(facts, workload, codec) for codec in codecs]
        if _of(facts, "times", workload=workload):
            found.append(_peer_row(facts, workload))
    if _of(facts, "quality"):
        found.append(blank(quality.PRESET, quality.CONTROL) | _quality(facts, quality.CONTROL))
    return found


def blank(workload: str, codec: str | None) -> Fact:
    return dict.fromkeys((*KEYS, *MORE)) | {"workload": workload, "codec": codec}


def _row(facts: Sequence[Fact], workload: str, codec: str) -> Fact:
    seeds = _of(facts, "traffic", workload=workload, codec=codec)
    names = [name for name in seeds[0] if name not in ("part", "workload", "codec", "seed")]
    means = {name: statistics.fmean(fact[name] for fact in seeds) for name in names}
    row = blank(workload, codec) | means | _ratios(means)
    row["ratio_by_seed"] = [fact["baseline_bytes"] / _both(fact) for fact in seeds]
    row["deduped_ratio"] = means["deduped_baseline_bytes"] / _both(means)
    row |= _times(facts, workload, codec) | _quality(facts, codec)
    return row | goals.verdict(row)


def _peer_row(facts: Sequence[Fact], workload: str) -> Fact:
    """Its bytes are of the timed batch; no other share of ids is off-rank, for every row is owned by one of the ranks."""
    (timed,) = _of(facts, "times", workload=workload, codec=PEER)
    sent = {name: timed[name] for name in ("forward_bytes", "backward_bytes")}
    return blank(workload, PEER) | sent | _times(facts, workload, PEER)


def _both(found: Fact) -> float:
    return found["forward_bytes"] + found["backward_bytes"]


def _ratios(means: Fact) -> Fact:
    """Each way's baseline is half of both ways'."""
    half = means["baseline_bytes"] / 2
    ways = {f"{way}_ratio": half / means[f"{way}_bytes"] for way in ("forward", "backward")}
    return {"ratio": means["baseline_bytes"] / _both(means), **ways}


def _times(facts: Sequence[Fact], workload: str, codec: str) -> Fact:
    """Medians; against fp32 and the peer by the medians of the turns' ratios."""
    timed = {fact["codec"]: fact for fact in _of(facts, "times", workload=workload)}
    if not timed:
        return {}
    mine = timed[codec]["step_s"]
    over = {
        name: statistics.median(b / a for a, b in zip(mine, timed[other]["step_s"], strict=True))
        for name, other in (("speedup_over_fp32", "fp32"), ("speedup_over_peer", PEER))
        if other in timed
    }
    medians = {"step_ms": 1e3 * statistics.median(mine), "step_min_ms": 1e3 * min(mine)}
    return {**medians, "first_call_s": timed[codec]["first_s"], "turns": len(mine), **over}


def _quality(facts: Sequence[Fact], codec: str) -> Fact:
    mine, fp32 = (_of(facts, "quality", codec=c) for c in (codec, "fp32"))
    if not mine:
        return {}
    return {
        "auc": statistics.fmean(fact["auc"] for fact in mine),
        "auc_fp32": statistics.fmean(fact["auc"] for fact in fp32),
        "auc_by_seed": [fact["auc"] for fact in mine],
        "auc_fp32_by_seed": [fact["auc"] for fact in fp32],
        "bayes_auc_by_seed": [fact["bayes_auc"] for fact in mine],
    }


def _of(facts: Sequence[Fact], part: str, **wanted: Any) -> list[Fact]:
    return [f for f in facts if f["part"] == part and all(f.get(k) == v for k, v in wanted.items())]
