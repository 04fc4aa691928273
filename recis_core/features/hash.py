"""Hash: text to 64-bit ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from recis_core.features.arguments import one_of
from recis_core.features.op import Op
from recis_core.features.value import check_kind
from recis_core.hashing import farmhash, murmurhash
from recis_core.ragged import RaggedTensor

KINDS: dict[str, Any] = {"farm": farmhash, "murmur": murmurhash}


@dataclass(frozen=True, eq=False, repr=False)
class Hash(Op):
    """A 64-bit hash of each text, as a signed integer.

    Args:
      hash_type: "farm", FarmHash Fingerprint64 (farmhashna); or "murmur", MurmurHash64A with seed 0.

    Takes text: a RaggedTensor of bytes with one more level of offsets than the result, which is a RaggedTensor of int64.
    """

    hash_type: str
    takes: ClassVar[str] = "text"

    def __post_init__(self) -> None:
        one_of(self.hash_type, "hash_type", tuple(KINDS))

    def check(self, value: Any) -> None:
        check_text(value)

    @classmethod
    def run(cls, ops: Sequence[Hash], values: Sequence[Any]) -> list[Any]:
        results: list[Any] = [None] * len(ops)
        for kind in KINDS:
            chosen = [n for n, op in enumerate(ops) if op.hash_type == kind]
            hashes = hashed_texts([values[n] for n in chosen], kind)
            for n, result in zip(chosen, hashes, strict=True):
                results[n] = result
        return results


def check_text(value: Any, what: str = "") -> None:
    """Raises TypeError or ValueError unless the value is text that can be hashed."""
    check_kind(value, "text", what)
    if value.weight() is not None:
        raise ValueError("text must have no weights, for they would be weights of its bytes. Weigh what is made of it.")


def hashed_texts(texts: Sequence[RaggedTensor], kind: str) -> list[RaggedTensor]:
    """Hashes of columns of text, in one call."""
    if not texts:
        return []
    found = KINDS[kind]([text.values() for text in texts], [text.offsets()[-1] for text in texts])
    return [_outer(text, hashes) for text, hashes in zip(texts, found, strict=True)]


def _outer(text: RaggedTensor, hashes: Any) -> RaggedTensor:
    """The rows that held texts."""
    return RaggedTensor(hashes, text.offsets()[:-1], dense_shape=text.dense_shape[:-1])
