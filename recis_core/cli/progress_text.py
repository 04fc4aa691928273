"""A training's progress and result, in words that fit a width."""

from __future__ import annotations

from typing import Any

from recis_core.cli.measure import in_words
from recis_core.framework import Logged
from recis_core.hooks.progress_line import GAP, Part, clock


def progress_parts(logged: Logged, done: int, rows: int, elapsed: float) -> list[Part]:
    """rows/s, loss, AUC and time left are dropped last. Time left leaves out compilation, which is over."""
    left = max(0, rows - done) / logged.rows_per_s * (1 - logged.compiling) if logged.rows_per_s else 0.0
    parts = [
        Part(5, f"{done:,}/{rows:,} rows"),
        Part(1, f"{logged.rows_per_s:,.0f} rows/s"),
        Part(2, f"loss {logged.loss:.4f}"),
        Part(3, f"AUC {logged.auc:.4f}"),
        Part(4, f"left {clock(left)}"),
        Part(8, f"after {clock(elapsed)}"),
    ]
    if logged.cache:
        parts.append(Part(6, f"on device {100 * logged.cache['hit_rate']:.1f} %"))
        parts.append(Part(7, f"stalled {100 * logged.cache['stalled']:.0f} %"))
    return parts


def step_line(logged: Logged, done: int, rows: int) -> str:
    """All parts on one line."""
    parts = progress_parts(logged, done, rows, 0.0)
    return GAP.join([f"step {logged.step}", *(part.text for part in parts if part.rank < 8)])


def final_lines(final: dict[str, Any]) -> list[str]:
    """The run in one line, its AUC beside the best possible one in another."""
    tables, loss = f"{final['table_rows']:,} rows in tables", f"test log loss {final['logloss']:.4f}"
    line = f"test AUC {final['auc']:.4f}"
    if final.get("auc_note"):
        line += f" ({final['auc_note']})"
    if final["bayes_auc"] is not None:
        line += f"  Bayes AUC {final['bayes_auc']:.4f}  gap {final['bayes_auc'] - final['auc']:.4f}"
    line = GAP.join([line, *in_words(final.get("metrics", {}))])
    return [f"{final['steps']} steps on {final['backend']}{_ranks(final)}, {_rate(final)}, {tables}, {loss}", line]


def _rate(final: dict[str, Any]) -> str:
    """Rows by wall time of this process, compilation included."""
    rate = f"{final['rows_per_s']:,.0f} rows/s"
    if "train_seconds" not in final:
        return rate
    compiling = final["compile_seconds"]
    during = f" ({compiling:.1f} s of them compiling)" if compiling >= 0.1 else ""
    return f"{final['trained_rows']:,} rows in {final['train_seconds']:.1f} s{during}: {rate}"


def _ranks(final: dict[str, Any]) -> str:
    world, exchange = final["world_size"], final["exchange"]
    sent = sum(n for kind, n in exchange.items() if kind not in ("clamped", "exact_rows"))
    return "" if world == 1 else f" over {world} ranks ({sent / 1e6:,.1f} MB exchanged)"
