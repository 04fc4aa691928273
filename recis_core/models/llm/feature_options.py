"""Options of the tables beside a decoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from recis_core.nn import EmbeddingOption

CANDIDATES = "candidates"  # a key of batches, and the engine's second feature of the item table


def unpooled(options: Any, item: str) -> dict[str, EmbeddingOption]:
    """Options that give each id its row; and one for CANDIDATES, which share the table of `item`.

    Raises: see DecoderWithTables.
    """
    _check(options, item)
    each = {name: replace(option, combiner="none") for name, option in options.items()}
    each[item] = each[CANDIDATES] = replace(each[item], shared_name=each[item].shared_name or item)
    return each


def _check(options: Any, item: str) -> None:
    if not isinstance(options, Mapping):
        raise TypeError(f"options must be a dict of EmbeddingOption by feature; got {type(options).__name__}.")
    if item not in options:
        raise ValueError(f"item must be one of the features that have an option, {list(options)}; got {item!r}.")
    taken = [name for name in ("tokens", CANDIDATES) if name in options]
    if taken:
        raise ValueError(f"features must not be named {taken}, which a batch holds beside them.")
    for name, option in options.items():
        if not isinstance(option, EmbeddingOption):
            raise TypeError(f"the option of {name!r} must be an EmbeddingOption; got {type(option).__name__}.")
        if option.combiner not in ("sum", "none"):
            raise ValueError(
                f"the option of {name!r} must have combiner='none', for each id has a position of its own; got "
                f"{option.combiner!r}."
            )
    if options[item].padding_id is not None:
        raise ValueError(
            f"the option of {item!r} must have no padding_id, for padding cannot be predicted; give ragged ids instead."
        )
