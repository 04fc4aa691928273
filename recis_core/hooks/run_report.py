"""What a run took: rows/s, utilisation, time by phase."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from recis_core.hooks.screen import note
from recis_core.hooks.training_clock import BESIDE

PARTS_OF_FORWARD = ("features", "lookup")


@dataclass(frozen=True)
class RunReport:
    """Of training in this process.

    seconds: wall time, evaluations and saves left out. rows: of all ranks. phases: seconds by phase, those two and "other"
    among them. flops_per_step: of one rank, in the step that was counted. peak_flops: of one rank, by second.
    """

    steps: int
    rows: int
    seconds: float
    phases: dict[str, float]
    flops_per_step: int | None = None
    peak_flops: float | None = None

    @property
    def rows_per_s(self) -> float:
        return self.rows / self.seconds if self.seconds > 0 else 0.0

    @property
    def flops_per_s(self) -> float | None:
        """Of one rank; None where no step was counted."""
        if self.flops_per_step is None or self.seconds <= 0:
            return None
        return self.flops_per_step * self.steps / self.seconds

    @property
    def utilisation(self) -> float | None:
        """flops_per_s as a share of the peak; None without one."""
        if self.flops_per_s is None or self.peak_flops is None:
            return None
        return self.flops_per_s / self.peak_flops

    def numbers(self) -> dict[str, Any]:
        """All of it by name, for JSON."""
        return {
            "steps": self.steps, "rows": self.rows, "seconds": self.seconds, "rows_per_s": self.rows_per_s,
            "flops_per_step": self.flops_per_step, "flops_per_s": self.flops_per_s, "utilisation": self.utilisation,
            "phases": dict(self.phases),
        }  # fmt: skip

    def show(self, console: Console) -> None:
        """All but the phases in a line, and these in a table."""
        note(console, self._head())
        table = Table("phase")
        for column in ("seconds", "share", "ms/step"):
            table.add_column(column, justify="right")
        whole = sum(self.phases.values())
        for phase, seconds in self.phases.items():
            share = f"{100 * seconds / whole:.1f} %" if whole else ""
            by_step = f"{1e3 * seconds / self.steps:.3f}" if self.steps and phase not in BESIDE else ""
            table.add_row(phase, f"{seconds:.2f}", share, by_step)
        console.print(table)

    def _head(self) -> str:
        head = f"{self.steps:,} steps, {self.rows:,} rows in {self.seconds:.1f} s: {self.rows_per_s:,.0f} rows/s"
        if self.flops_per_s is not None:
            head += f", {self.flops_per_s / 1e9:,.3g} GFLOP/s a rank"
        return head if self.utilisation is None else f"{head}, {100 * self.utilisation:.3g} % of the peak"


def phases_of(taken: dict[str, float], modules: dict[str, float], wall: float) -> dict[str, float]:
    """Seconds by phase in the order of a step: features and lookup are taken out of the forward; "other" is the rest of wall."""
    dense = max(0.0, taken.get("forward", 0.0) - sum(modules.values()))
    phases = {"reading": taken.get("reading", 0.0), **modules, "dense forward": dense}
    phases |= {name: seconds for name, seconds in taken.items() if name not in ("reading", "forward", *BESIDE)}
    phases |= {name: taken[name] for name in BESIDE if name in taken}
    return phases | {"other": max(0.0, wall - sum(phases.values()))}
