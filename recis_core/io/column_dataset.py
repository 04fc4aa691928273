"""Declares which columns are read, and as what.

Sizes: n rows of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import torch

from recis_core.io.dataset import Dataset
from recis_core.io.feature import Feature, dense, fixed_length, ids, label, probability, variable_length
from recis_core.io.file_set import FileSet
from recis_core.io.maps import KEYS, VALUES
from recis_core.io.nulls import rule
from recis_core.io.roles import Ids


class ColumnDataset(Dataset):
    """A dataset whose features are columns of files."""

    def __init__(self, *where: Any, ragged_format: bool, dtype: torch.dtype | None, **options: Any) -> None:
        super().__init__(*where, **options)
        self.ragged_format, self.dtype = ragged_format, dtype
        self.files = FileSet()
        self._features: dict[str, Feature] = {}
        self._targets: dict[str, list[pa.DataType]] = {}  # by feature, of these files
        self._declared: list[tuple[Callable[..., Feature], tuple[Any, ...]]] = []
        self._as_sparse: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        """Features hold functions that cannot be sent to another process; they are made anew there."""
        return {**super().__getstate__(), "_features": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._features = {}
        for factory, arguments in self._declared:
            feature = factory(*arguments)
            self._features[feature.name] = feature

    def varlen_feature(
        self,
        name: str,
        hash_type: str | None = None,
        hash_bucket: int = 0,
        *,
        unit: str | None = None,
        null: str = "drop",
        default: float | str | bytes | None = None,
    ) -> None:
        """Read a column as rows of any length: lists, numbers (rows of one), text (bytes, one more level).

        Dates, times and timestamps become integers, as in id_feature; decimals floats. RecIS's hash_type and hash_bucket
        raise: id_feature gives ids of text.

        Args:
          unit: of dates, timestamps, times and durations: "ns", "us", "ms", "s", "min", "hour" or "day", rounded down.
          null: "drop": a null is left out, in lists too, and a null list is empty. "error": a null raises.
          default: what a null becomes; a null list becomes a list of it. Of text str or bytes.
        """
        if hash_type is not None or hash_bucket:
            raise ValueError(
                f"varlen_feature({name!r}) reads text as bytes and hashes nothing; got hash_type={hash_type!r}, "
                f"hash_bucket={hash_bucket}. Use id_feature({name!r}), or hash_strings of what varlen_feature gives."
            )
        self._add(variable_length, name, self.dtype, unit, rule(name, null, default))
        if not self.ragged_format:
            self._as_sparse.add(name)

    def fixedlen_feature(
        self, name: str, default_value: float | Sequence[float], *, unit: str | None = None, null: str = "default"
    ) -> None:
        """Read a column as a tensor [n, len(default_value)], [n] for a number; empty and null rows get the default.

        A null inside a list gets the default's value of that place. null="error": a null raises. unit: as in varlen_feature.

        Raises:
          TypeError, ValueError: the default is no number, or the column cannot hold it, such as nan for integers.
        """
        self._add(fixed_length, name, default_value, self.dtype, unit, rule(name, null, None, "default"))

    def id_feature(
        self,
        name: str,
        weight: str | None = None,
        *,
        text: bool = False,
        whole: bool = False,
        unit: str | None = None,
        null: str = "drop",
        default: int | str | bytes | None = None,
    ) -> None:
        """Read a column as rows of int64 ids, one value or a list a row.

        Integers stay (uint64 keeps its bits: 2**63 and more become negative, which is said once), bools become 0 and 1, text
        is hashed by hash_strings, dates become days since 1970, timestamps, times and durations microseconds, rounded down.
        Whole decimals stay; others become the hash of their text.

        Args:
          weight: a column of floats, one for each id of a row; the RaggedTensor then has weights.
          text: hash the text of each value, of any kind, so that 1 in one file and "1" in another are equal.
          whole: accept floats that are whole numbers, as pandas writes integers with nulls.
          unit: of dates, timestamps, times and durations: "ns", "us", "ms", "s", "min", "hour" or "day", rounded down.
          null: "drop": a null is left out, in lists too. "error": a null raises.
          default: the id of nulls, or a text whose hash it is; a null list becomes a list of it.

        Raises:
          TypeError: the column holds floats, nested lists or structs, or its kind does not go with that of other files.
          ValueError, while reading: a row has more weights than ids, or fewer; names file, column and row.
        """
        self._add(ids, name, weight, Ids(text, whole, unit), rule(name, null, default))

    def map_feature(self, name: str, *, weighted: bool = False, null: str = "drop") -> None:
        """Read a column of maps as two features with the same offsets: NAME.keys, as ids, and NAME.values, as varlen_feature.

        The two are columns for every other method, too: id_feature("prices.values"). weighted: values are the keys' weights,
        and NAME.keys is the only feature.
        """
        keys, values = name + KEYS, name + VALUES
        self.id_feature(keys, values if weighted else None, null=null)
        if not weighted:
            self.varlen_feature(values, null=null)

    def dense_feature(self, name: str, width: int = 1, *, null: str = "default", default: float | None = None) -> None:
        """Read a column of numbers as floats [n, width]; null and NaN become the default, 0, an infinite value raises.

        null="error": null and NaN raise.
        """
        self._add(dense, name, width, self.dtype, rule(name, null, default, "default"))

    def label_feature(self, name: str) -> None:
        """Read a column of integers, bools or floats as labels, float32 [n]; values other than 0 and 1 raise."""
        self._add(label, name)

    def probability_feature(self, name: str) -> None:
        """Read a column of numbers in [0, 1] as float32 [n]."""
        self._add(probability, name)

    def _add(self, factory: Callable[..., Feature], *arguments: Any) -> None:
        feature = factory(*arguments)
        if self.files.rows:
            self._targets[feature.name] = feature.targets(self.files)
        self._features[feature.name] = feature
        self._as_sparse.discard(feature.name)
        self._declared.append((factory, arguments))
