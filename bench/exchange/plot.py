"""AUC against bytes: one number a codec. Needs matplotlib, of the extra `bench`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recis_core.bench.exchange.goals import GOALS

LIMITS, TOP = (2.5, 100.0), 0.01
MEGABYTES = (20, 10, 5, 3, 2, 1, 0.7)


def draw(rows: Sequence[dict[str, Any]], path: str) -> None:
    """rows: those of one workload with an AUC."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(12, 6.2), layout="constrained")
    baseline = rows[0]["baseline_bytes"]
    for goal in GOALS:
        corner = [goal.ratio, goal.ratio, LIMITS[1]], [TOP, -goal.auc, -goal.auc]  # met: right of it and above
        axes.plot(*corner, color="tab:green", lw=0.9, ls=":")
        axes.annotate(f"≥ {goal.ratio:g}×", (goal.ratio, 0.006), color="tab:green", ha="right", rotation=90, va="top")
    for number, row in enumerate(rows, 1):
        losses = [a - b for a, b in zip(row["auc_by_seed"], row["auc_fp32_by_seed"], strict=True)]
        mean = sum(losses) / len(losses)
        label = f"{number:2d}  {row['codec']}   {row['ratio']:.1f}×   {mean:+.5f}".replace("-0", "−0")
        (dot,) = axes.plot(row["ratio"], mean, "o", ms=15, alpha=0.35, label=label)
        axes.plot([row["ratio"]] * len(losses), losses, "_", ms=9, color=dot.get_color())
        axes.annotate(str(number), (row["ratio"], mean), ha="center", va="center", fontsize=8)
    axes.set_xscale("log")
    axes.set_xlim(*LIMITS)
    ticks = [3, 6, 11, 15, 20, 30, 50, 80]
    axes.set_xticks(ticks, [f"{t}×" for t in ticks], minor=False)
    axes.minorticks_off()
    axes.set_yscale("symlog", linthresh=1e-3)
    axes.set_ylim(-0.3, TOP)
    axes.set_xlabel("times fewer bytes than fp32 rows and int64 ids without dedup, forward + backward")
    axes.set_ylabel("AUC − AUC of fp32 on `small` (linear within ±.001); dashes are seeds")
    top = axes.secondary_xaxis("top", functions=(lambda x: x, lambda x: x))
    top.set_xticks([baseline / 1e6 / m for m in MEGABYTES], [f"{m:g} MB" for m in MEGABYTES], minor=False)
    top.minorticks_off()
    top.set_xlabel(f"{rows[0]['workload']}: bytes a step over both ranks, 4,096 rows each, D 64")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, handletextpad=0.2, labelspacing=0.9)
    figure.savefig(path, dpi=110)
    plt.close(figure)
