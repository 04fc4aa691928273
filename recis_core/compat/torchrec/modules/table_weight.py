"""A table in the place of TorchRec's nn.EmbeddingBag or nn.Embedding: embedding_bags.NAME, with a weight.

Sizes: n = num_embeddings, D dim.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from recis_core.compat.torchrec.modules import table_rows
from recis_core.compat.torchrec.modules.table_parameter import TableParameter
from recis_core.nn.hash_table import HashTable
from recis_core.nn.table_module import TableModule


class TableWeight(TableModule):
    """Holds `table`, the HashTable, and `weight`, the parameter that stands for its rows.

    With one rank and a known number of rows its entry in a state_dict is TorchRec's: `weight` [n, D], all rows. Otherwise
    it is the table's own, `table.slices.…`. Both forms can be loaded in either case.
    """

    def __init__(self, table: HashTable, num_embeddings: int, dynamic: bool) -> None:
        super().__init__()
        self.table, self.num_embeddings, self.embedding_dim = table, num_embeddings, table.dim
        self.weight = TableParameter(table, num_embeddings, dynamic)
        self.register_state_dict_post_hook(_as_weight)

    def fill(self, init_fn: Callable[[Tensor], Tensor | None]) -> None:
        """Give all rows the values that init_fn fills in."""
        values = torch.empty(self.num_embeddings, self.embedding_dim)
        with torch.no_grad():
            init_fn(values)
        self._take(values)

    def _take(self, values: Tensor) -> None:
        self.table.load_state_dict(self._state_of(values))

    def _state_of(self, values: Tensor) -> dict[str, Tensor]:
        """Values [n, D] as an entry of the table's state; slots of its optimizer stay."""
        ids = torch.arange(self.num_embeddings)
        return table_rows.all_of(self.table, ids, values, table_rows.slots_of(self.table))

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        """Nothing: the table writes its rows, and the hook after that turns them into `weight`."""

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Turn `weight` into the entry that the table reads after this."""
        weight = state_dict.pop(prefix + "weight", None)
        if weight is None:
            return
        wanted = (self.num_embeddings, self.embedding_dim)
        if not isinstance(weight, Tensor) or tuple(weight.shape) != wanted or not weight.is_floating_point():
            got = f"{weight.dtype} {list(weight.shape)}" if isinstance(weight, Tensor) else type(weight).__name__
            error_msgs.append(f"{prefix}weight must be floats {list(wanted)}; got {got}.")
            return
        state_dict.update({f"{prefix}table.{key}": value for key, value in self._state_of(weight).items()})

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        """Tables stay where they are, and so does the parameter, which has no rows."""
        self.table._apply(fn, recurse)
        return self

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}{', dynamic' if self.weight.dynamic else ''}"


def _as_weight(module: TableWeight, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    """Put `weight` in the place of the table's slices, unless tables are left out of the state."""
    slices = [key for key in state if key.startswith(f"{prefix}table.slices.")]
    if not slices or not module.weight.is_whole:
        return
    for key in slices:
        del state[key]
    ids = torch.arange(module.num_embeddings)
    state[prefix + "weight"] = table_rows.rows_of(module.table, ids)
