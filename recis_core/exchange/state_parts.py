"""What a rank's share of a table has beside rows, as parts of a saved state: chosen codecs, and residuals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recis_core.exchange.adaptive import Chooser
from recis_core.exchange.keyed_rows import SLOT, KeyedRows
from recis_core.exchange.residuals import Residuals

if TYPE_CHECKING:
    from recis_core.exchange.sharded_table import ShardedTable


class CodecsPart:
    of_gradients = True

    def __init__(self, table: ShardedTable) -> None:
        self.table = table

    def saved(self) -> dict[str, Any]:
        return {"rows": self.table.to_rows.state(), "gradients": self.table.to_gradients.state()}

    def aside(self) -> CodecsAside:
        return CodecsAside(self.table)


class CodecsAside:
    """Codecs that are chosen by error go on from what was measured; under another precision they begin anew."""

    def __init__(self, table: ShardedTable) -> None:
        self.table, self.choosers = table, {"rows": table.to_rows, "gradients": table.to_gradients}

    def take(self, saved: Any) -> None:
        for name, now in tuple(self.choosers.items()):
            chooser = Chooser(now.direction)
            if chooser.state().keys() == saved[name].keys():
                chooser.load_state(saved[name])
                self.choosers[name] = chooser

    def merge(self, saved: Any, ordinals: dict[int, int]) -> None:
        """Other ranks' errors choose nothing here."""

    def commit(self) -> None:
        self.table.to_rows, self.table.to_gradients = self.choosers["rows"], self.choosers["gradients"]


class ResidualPart:
    of_gradients = True

    def __init__(self, residuals: Residuals) -> None:
        self.residuals = residuals

    def saved(self) -> dict[str, Any]:
        kept = self.residuals.snapshot()
        return {"ids": kept.ids, "ordinals": kept.tables, "values": kept.slots[SLOT]}

    def aside(self) -> ResidualAside:
        return ResidualAside(self.residuals)


class ResidualAside:
    """A sender goes on with its own; what other senders kept comes as gradient that is still to apply."""

    def __init__(self, residuals: Residuals) -> None:
        self.residuals = residuals
        self.rows: KeyedRows | None = None

    def take(self, saved: Any) -> None:
        self.rows = self.residuals.made(**saved)

    def merge(self, saved: Any, ordinals: dict[int, int]) -> None:
        """See above."""

    def commit(self) -> None:
        if self.rows is not None:
            self.residuals.rows = self.rows
