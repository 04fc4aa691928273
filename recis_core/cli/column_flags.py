"""The flags that say which columns of files `recis train` reads, and as what."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from recis_core.cli.flags import flag

KINDS = ("string_columns", "id_columns", "dense_columns")
NAMES = ("columns", "skip", *KINDS)


@dataclass(frozen=True, kw_only=True)
class ColumnFlags:
    """Of --data."""

    columns: tuple[str, ...] = ()
    """With --data: the columns to read, beside --label and --truth. Default: all."""
    skip: tuple[str, ...] = ()
    """With --data: columns to leave out."""
    string_columns: tuple[str, ...] = ()
    """With --data: columns to read as text whatever they hold, so that files may mix kinds; their text is hashed to ids."""
    id_columns: tuple[str, ...] = ()
    """With --data: columns of floats that are ids, whole numbers, as pandas writes integers with nulls."""
    dense_columns: tuple[str, ...] = ()
    """With --data: columns of integers, bools or decimals that are dense inputs, as floats are."""
    truth: str | None = None
    """With --data: a column of true click probabilities, as p of `recis data synth`. It is never an input; the test
    reports its AUC as bayes_auc."""


def check_columns(flags: ColumnFlags, data: str | None) -> None:
    """Raises ValueError where flags go without --data, or contradict each other."""
    given = [name for name in (*NAMES, "truth") if getattr(flags, name)]
    if given and data is None:
        raise ValueError(f"{flag(given[0])} goes with --data; --preset brings its own columns.")
    for name in (n for n in NAMES if getattr(flags, n)):
        twice = [column for column, times in Counter(getattr(flags, name)).items() if times > 1]
        if twice:
            raise ValueError(f"{flag(name)} names {twice[0]!r} twice.")
    _check_once(flags, KINDS)
    for name in ("columns", *KINDS):
        _check_once(flags, ("skip", name))


def _check_once(flags: ColumnFlags, names: tuple[str, ...]) -> None:
    """No column under two of these flags."""
    found: dict[str, str] = {}
    for name in names:
        for column in getattr(flags, name):
            other = found.setdefault(column, name)
            if other != name:
                raise ValueError(f"{flag(other)} and {flag(name)} both name {column!r}; give it to one of them.")
