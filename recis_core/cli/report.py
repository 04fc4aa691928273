"""What `recis train` shows: a progress bar, or JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from recis_core.framework import Logged, TrainLoop


class Report(Protocol):
    """Hears of logged steps and of the end."""

    def training(self, rows: int, loop: TrainLoop) -> AbstractContextManager[None]: ...

    def log(self, logged: Logged) -> None: ...

    def final(self, final: dict[str, Any]) -> None: ...


class JsonReport:
    """One object a line."""

    @contextmanager
    def training(self, rows: int, loop: TrainLoop) -> Iterator[None]:
        yield

    def log(self, logged: Logged) -> None:
        said: dict[str, Any] = {"step": logged.step, "loss": logged.loss, "rows_per_s": logged.rows_per_s}
        print(json.dumps(said | ({"cache": logged.cache} if logged.cache else {})), flush=True)

    def final(self, final: dict[str, Any]) -> None:
        print(json.dumps(final), flush=True)


class SilentReport:
    """Of all ranks but the first."""

    @contextmanager
    def training(self, rows: int, loop: TrainLoop) -> Iterator[None]:
        yield

    def log(self, logged: Logged) -> None: ...

    def final(self, final: dict[str, Any]) -> None: ...


class ScreenReport:
    """A rich progress bar with rows/s, loss and AUC; then the result in words."""

    def __init__(self) -> None:
        self._console = Console()
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(
                "rows  {task.fields[rate]}  loss {task.fields[loss]}  AUC {task.fields[auc]}{task.fields[cache]}"
            ),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
        )

    @contextmanager
    def training(self, rows: int, loop: TrainLoop) -> Iterator[None]:
        self._loop = loop
        self._task = self._progress.add_task("", total=rows, rate="", loss="", auc="", cache="")
        with self._progress:
            yield

    def log(self, logged: Logged) -> None:
        self._progress.update(
            self._task,
            completed=self._loop.rows,
            rate=f"{logged.rows_per_s:,.0f} rows/s",
            loss=f"{logged.loss:.4f}",
            auc=f"{logged.auc:.4f}",
            cache=_cache(logged.cache),
        )

    def final(self, final: dict[str, Any]) -> None:
        say = self._console.print
        say(
            f"{final['steps']} steps on {final['backend']}{_ranks(final)}, {final['rows_per_s']:,.0f} rows/s, "
            f"{final['table_rows']:,} rows in tables, test log loss {final['logloss']:.4f}",
            highlight=False,
        )
        line = f"test AUC {final['auc']:.4f}"
        if final["bayes_auc"] is not None:
            line += f"  Bayes AUC {final['bayes_auc']:.4f}  gap {final['bayes_auc'] - final['auc']:.4f}"
        say(line, highlight=False)


def _cache(cache: dict[str, float]) -> str:
    """Share of ids whose rows were on the device, and the share of time that was waited for the others."""
    if not cache:
        return ""
    return f"  on device {100 * cache['hit_rate']:.1f} %  stalled {100 * cache['stalled']:.0f} %"


def _ranks(final: dict[str, Any]) -> str:
    world, exchange = final["world_size"], final["exchange"]
    sent = sum(n for kind, n in exchange.items() if kind not in ("clamped", "exact_rows"))
    return "" if world == 1 else f" over {world} ranks ({sent / 1e6:,.1f} MB exchanged)"
