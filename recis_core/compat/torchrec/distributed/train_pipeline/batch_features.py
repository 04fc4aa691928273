"""The KeyedJaggedTensor of a batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from recis_core.backends.errors import RecisError
from recis_core.ragged.keyed_jagged import is_keyed_jagged


def keyed_jagged_of(batch: Any, wanted: Iterable[str]) -> Any:
    """The first KeyedJaggedTensor with these keys: the batch, or a field, value or item of the batch.

    Raises:
      RecisError: there is none.
    """
    wanted = set(wanted)
    for part in _parts(batch):
        if is_keyed_jagged(part) and wanted <= set(part.keys()):
            return part
    raise RecisError(
        f"a {type(batch).__name__} must be or hold a KeyedJaggedTensor with the keys {sorted(wanted)}, whose rows are "
        "fetched ahead; this one does not. Give features=, a function from a batch to it."
    )


def _parts(batch: Any) -> list[Any]:
    if is_keyed_jagged(batch):
        return [batch]
    if isinstance(batch, Mapping):
        return list(batch.values())
    if isinstance(batch, Sequence) and not isinstance(batch, str):
        return list(batch)
    return list(vars(batch).values()) if hasattr(batch, "__dict__") else []
