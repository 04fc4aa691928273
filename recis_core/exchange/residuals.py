"""Error feedback: what few-bit codes of gradients have lost so far is added to the next gradients.

Each sender keeps residuals by key, float32 and unscaled, bounded in bytes. A gradient whose residual finds no room is
sent exactly, so that Σ sent + residual = Σ true always holds. A step's residuals are written when the step is applied.

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
        """Residuals of keys, float32 [U, D], zeros for new keys; and positions int64 of new keys without room."""
        found = self.rows.find(keys.ids, keys.ordinals)
        homeless = (found < 0).nonzero().flatten()[max(0, self.rows.room) :]
        self.overflowed += len(homeless)
        return self.rows.read(found), homeless

    def stage(self, keys: SortedKeys, left: Tensor) -> None:
        """A step's residuals, float32 [U, D], for when it is applied."""
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
        """All residuals, on the CPU: ids, ordinals, and the slot keyed_rows.SLOT."""
        return self.rows.snapshot()

    def made(self, ids: Tensor, ordinals: Tensor, values: Tensor) -> KeyedRows:
        """Residuals from what `snapshot` gave, to take these ones' place.

        Raises:
          TableFull: there is no room for them in the budget.
        """
        device, rows = self.rows.device, self.rows.another()
        rows.write(ids.to(device), ordinals.to(device), values.to(device))
        return rows
