"""Vocabulary: the position of a value in a list."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recis_core.features.arguments import as_flag, as_list, as_text, as_whole
from recis_core.features.hash import check_text, hashed_texts
from recis_core.features.memory import array
from recis_core.features.op import Op, Origin
from recis_core.features.same_texts import keep_same, letters_of
from recis_core.features.value import check_kind, mapped
from recis_core.features.vocabulary_file import HIGH, LOW, Entries, content_of, read_entries
from recis_core.features.word_hash import hash_words
from recis_core.hashing import murmurhash
from recis_core.hashing.columns import runs_loops
from recis_core.ragged import RaggedTensor, uint64_mod

FEW = 20  # entries that an op's text shows


@dataclass(frozen=True, eq=False, repr=False)
class Vocabulary(Op):
    """The position of each value among V entries; of others V + hash mod oov_buckets.

        Vocabulary(["red", "green"]) of green, blue   →   1, 2

    Args:
      entries: distinct integers, or distinct texts.
      file: instead of entries a file: text with an entry a line, UTF-8, or Parquet. A relative path leads from the folder
        of the file that names it, or from the working directory.
      column: of Parquet, where it has several.
      integers: the lines of a text file are integers.
      oov_buckets: ids for values that are no entry. With 0 they become −1, for `EmbeddingOption(padding_id=-1)`.
      content: the hash of the file's entries as `to_yaml` wrote it; a file that has changed since is refused.

    Takes integers in any form, or text, as the entries are; gives int64 in the same form, rows of texts as a RaggedTensor.
    Text counts as an entry where all its bytes are the entry's. The hash is MurmurHash64A of the text, or of an integer's 8
    little-endian bytes, unsigned. A definition (`to_dict`) holds the entries themselves, so it needs no file.
    """

    entries: Entries | None = None
    file: str | None = None
    column: str | None = None
    integers: bool = False
    oov_buckets: int = 1
    content: str | None = None

    def __post_init__(self) -> None:
        as_flag(self.integers, "integers")
        self._set(oov_buckets=as_whole(self.oov_buckets, "oov_buckets", 0))
        if (self.entries is None) == (self.file is None):
            raise ValueError(f"either entries or file must be given; got {'neither' if self.file is None else 'both'}.")
        self._read_file() if self.file is not None else self._check_entries_given()
        self._set(entries=_checked(self.entries, str(self.file or "entries")))
        found = content_of(self.entries)  # type: ignore[arg-type]
        if self.content is not None and self.content != found:
            raise ValueError(
                f"the entries of {self.file or 'the vocabulary'} have changed: their hash was {self.content}, and is {found}."
            )
        self._set(content=found)

    def _read_file(self) -> None:
        path = Path(os.path.abspath(as_text(self.file, "file")))
        self._set(file=str(path), entries=read_entries(path, self.column, self.integers))

    def _check_entries_given(self) -> None:
        if self.column is not None or self.integers:
            raise ValueError("column and integers say how a file is read; entries are given.")
        self._set(entries=tuple(as_list(self.entries, "entries")))

    @classmethod
    def _completed(cls, arguments: Mapping[str, Any], origin: Origin) -> dict[str, Any]:
        if not isinstance(arguments.get("file"), str):
            return dict(arguments)
        return {**arguments, "file": str(origin.folder / arguments["file"])}

    def arguments(self) -> dict[str, Any]:
        return {"entries": list(self.entries or ()), "oov_buckets": self.oov_buckets}

    def written(self, folder: Path) -> dict[str, Any]:
        if self.file is None:
            return {n: v for n, v in self.arguments().items() if (n, v) != ("oov_buckets", 1)}
        given = {"column": self.column, "integers": self.integers, "oov_buckets": self.oov_buckets}
        defaults = {"column": None, "integers": False, "oov_buckets": 1}
        others = {name: value for name, value in given.items() if value != defaults[name]}
        return {"file": os.path.relpath(self.file, folder), **others, "content": self.content}

    def __repr__(self) -> str:
        if len(self.entries or ()) <= FEW:
            return super().__repr__()
        where = "" if self.file is None else f", file={self.file!r}"
        return f"Vocabulary({len(self.entries or ()):,} entries{where}, oov_buckets={self.oov_buckets})"

    @property
    def takes_text(self) -> bool:
        return bool(self.entries) and isinstance(self.entries[0], str)  # type: ignore[index]

    def kinds(self, inputs: int) -> list[str]:
        return ["text" if self.takes_text else "int"] * inputs

    @property
    def size(self) -> int:
        """How many ids it gives: entries and buckets for others."""
        return len(self.entries or ()) + self.oov_buckets

    def check(self, value: Any) -> None:
        if self.takes_text:
            check_text(value)
        else:
            check_kind(value, "int")

    @classmethod
    def run(cls, ops: Sequence[Vocabulary], values: Sequence[Any]) -> list[Any]:
        results = list(values)
        texts = [n for n, op in enumerate(ops) if op.takes_text]
        for n, ids in zip(texts, hashed_texts([values[n] for n in texts], "murmur"), strict=True):
            results[n] = ids.with_values(ops[n]._of_texts(values[n], ids.values()))
        for n in set(range(len(ops))) - set(texts):
            results[n] = mapped(values[n], ops[n]._of_integers)
        return results

    def _of_integers(self, values: Tensor) -> Tensor:
        ids = values.to(torch.int64).reshape(-1)
        return self._with_others(ids, self._positions(ids)).reshape(values.shape)

    def _of_texts(self, texts: RaggedTensor, hashes: Tensor) -> Tensor:
        """Positions by hash, kept where the bytes are the entry's."""
        device = hashes.device
        entries = self._kept(("letters", device), lambda: tuple(part.to(device) for part in letters_of(self._texts)))
        found = keep_same((texts.values(), texts.offsets()[-1]), entries, self._positions(hashes))
        return self._with_others(hashes, found)

    def _positions(self, ids: Tensor) -> Tensor:
        return self._in_loop(ids) if runs_loops(ids.device) else self._in_torch(ids)

    def _in_loop(self, ids: Tensor) -> Tensor:
        from recis_core.backends.feature_loops.positions import find_positions, places_of  # loads numba

        places = self._kept("places", lambda: places_of(array(self._keys())))
        found = np.empty(len(ids), np.int64)
        find_positions(array(ids), places, found)
        return torch.from_numpy(found)

    def _in_torch(self, ids: Tensor) -> Tensor:
        keys, order = self._kept(("sorted", ids.device), lambda: tuple(t.to(ids.device) for t in self._keys().sort()))
        if not len(keys):
            return torch.full_like(ids, -1)
        at = torch.searchsorted(keys, ids).clamp(max=len(keys) - 1)
        return torch.where(keys[at] == ids, order[at], -1)

    def _with_others(self, ids: Tensor, found: Tensor) -> Tensor:
        V = len(self.entries or ())
        if self.oov_buckets <= 1:
            return found if self.oov_buckets == 0 else torch.where(found < 0, V, found)
        other = (found < 0).nonzero()[:, 0]
        if self.takes_text:  # ids are hashes already
            buckets = uint64_mod(ids[other], self.oov_buckets)
        else:
            (buckets,) = hash_words([[ids[other]]], [self.oov_buckets])
        return found.index_copy(0, other, V + buckets)

    @property
    def _texts(self) -> list[str]:
        return [str(entry) for entry in self.entries or ()]

    def _keys(self) -> Tensor:
        """int64 [V]: the entries, or their hashes."""
        if not self.takes_text:
            return torch.tensor(self.entries, dtype=torch.int64, device="cpu")
        return text_keys(self._texts)


def text_keys(texts: Sequence[str]) -> Tensor:
    """int64 [V]: MurmurHash64A of texts."""
    hashes: Tensor = murmurhash(*letters_of(texts))
    return hashes


def _checked(entries: Any, where: str) -> Entries:
    """Raises TypeError or ValueError unless all are distinct integers, or distinct texts."""
    texts = bool(entries) and isinstance(entries[0], str)
    seen: dict[Any, int] = {}
    for n, entry in enumerate(entries):
        if isinstance(entry, bool) or isinstance(entry, str) != texts or not isinstance(entry, int | str):
            raise TypeError(
                f"{where}: entries must be all integers or all texts; got {entry!r} at {n} (the first is 0)."
            )
        if isinstance(entry, int) and not LOW <= entry <= HIGH:
            raise ValueError(f"{where}: entries must be 64-bit integers; got {entry} at {n} (the first is 0).")
        if entry in seen:
            raise ValueError(f"{where}: {entry!r} is there twice, at {seen[entry]} and {n} (the first is 0).")
        seen[entry] = n
    if texts and len(text_keys(entries).unique()) != len(entries):
        raise ValueError(f"{where}: two of the texts have one 64-bit hash, by which they are found.")
    return tuple(entries)
