"""What this rank has not yet said of gradients it sent in few bits: added to the next ones (error feedback).

A table of its own at each sender, float32 and unscaled, bounded in bytes. A key that finds no room is sent exactly,
so that Σ sent + residual = Σ true always holds. What a step would leave is written only when that step is applied.

Sizes: U unique keys, D dim.
"""

from __future__ import annotations

from torch import Tensor

from recis_core.backends import Backend, Snapshot, TableSpec
from recis_core.exchange.keyed_rows import KEY_BYTES, KeyedRows
from recis_core.exchange.keys import SortedKeys
from recis_core.table.unapplied import Keys


class Residuals:
    """Of one storage.

    Args:
      dim: columns of a whole row. budget: bytes of rows and index at most.
    """

    def __init__(self, backend: Backend, spec: TableSpec, dim: int, budget: int) -> None:
        self.rows = KeyedRows(backend, spec, dim, max(1, budget // (4 * dim + KEY_BYTES)))
        self.overflowed = 0  # rows sent exactly for want of room, so far
        self._staged: tuple[SortedKeys, Tensor] | None = None

    def read(self, keys: SortedKeys) -> tuple[Tensor, Tensor]:
        """What is kept for keys, float32 [U, D], zeros for new ones; and positions int64 of new ones without room."""
        found = self.rows.find(keys.ids, keys.ordinals)
        homeless = (found < 0).nonzero().flatten()[max(0, self.rows.room) :]
        self.overflowed += len(homeless)
        return self.rows.read(found), homeless

    def stage(self, keys: SortedKeys, left: Tensor) -> None:
        """What a step will leave, float32 [U, D], once it is applied."""
        self._staged = keys, left

    def commit(self) -> None:
        """The step was applied."""
        staged, self._staged = self._staged, None
        if staged is None:
            return
        keys, left = staged
        stays = (left != 0).any(1)
        self.rows.erase(keys.ids[~stays], keys.ordinals[~stays])
        self.rows.write(keys.ids[stays], keys.ordinals[stays], left[stays])

    def drop(self) -> None:
        """The step was skipped."""
        self._staged = None

    def forget(self, keys: Keys) -> None:
        """The rows of these keys are gone."""
        kept = self.rows.keys()
        gone = keys.among(*kept)
        self.rows.erase(*(x[gone].to(self.rows.device) for x in kept))
        if self._staged is not None:
            staged, left = self._staged
            gone = keys.among(staged.ids, staged.ordinals).to(left.device)
            self._staged = staged, left.masked_fill(gone[:, None], 0.0)

    def snapshot(self) -> Snapshot:
        """All that is kept, on the CPU: ids, ordinals, and the slot keyed_rows.SLOT."""
        return self.rows.snapshot()

    def made(self, ids: Tensor, ordinals: Tensor, values: Tensor) -> KeyedRows:
        """To be kept instead: what `snapshot` gave.

        Raises:
          TableFull: there is no room for them in the budget.
        """
        device, rows = self.rows.device, self.rows.another()
        rows.write(ids.to(device), ordinals.to(device), values.to(device))
        return rows
