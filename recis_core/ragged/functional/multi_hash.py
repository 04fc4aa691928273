"""Several small hashes of each id. Sizes: C columns, N ids of all columns, J hashes of an id."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from recis_core.hashing.columns import addresses, as_columns, column_of_each, is_many, joined, runs_loops, starts_of
from recis_core.ragged.functional.columns import as_before, values_of
from recis_core.ragged.tensor import RaggedTensor

MULS = (1, 3, 5, 7)
PRIME_BOUNDS = (29, 47, 67, 83)  # times the buckets: hash j's prime is the largest up to there
WITNESSES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)  # enough below 3.3e24: Sorenson, Webster 2015
LARGEST = 1 << 62
Column = Tensor | RaggedTensor
Rule = list[tuple[int, int, int]]  # of each hash its multiplier, prime and number of buckets


@overload
def multi_hash(values: Tensor, num_buckets: Sequence[int]) -> list[Tensor]: ...
@overload
def multi_hash(values: RaggedTensor, num_buckets: Sequence[int]) -> list[RaggedTensor]: ...
@overload
def multi_hash(values: Sequence[Column], num_buckets: Sequence[int] | Sequence[Sequence[int]]) -> list[list[Any]]: ...
def multi_hash(values: Any, num_buckets: Any) -> Any:
    """Up to four small hashes of each id, that rarely collide all at once.

        multi_hash(torch.tensor([1001]), [1000] * 4)        # [[1], [3], [5], [7]]

    Hash j is (x · mⱼ mod pⱼ) mod num_buckets[j] with mⱼ of 1, 3, 5, 7 and pⱼ the largest prime up to 29, 47, 67, 83 times
    num_buckets[j]. The product wraps in 64 bits; a remainder is never negative.

    Args:
      values: int64 of any shape, a RaggedTensor of them, or a list of columns.
      num_buckets: one to four integers from 1 on; for columns one such list for all, or a list of lists.

    Returns:
      A list of as many columns of the same kind as buckets; for columns a list of such lists, in one call.
    """
    columns = as_columns(values)
    nested = _lists_of(num_buckets, len(columns), is_many(values), "num_buckets")
    rules = [_standard_rule(tuple(int(n) for n in buckets)) for buckets in nested]
    made = _hashed(columns, rules)
    return made if is_many(values) else made[0]


def multi_hash_with(values: Any, muls: Any, primes: Any, num_buckets: Any) -> Any:
    """`multi_hash` with multipliers and primes of one's own: (x · muls[j] mod primes[j]) mod num_buckets[j].

    Args:
      values: as in `multi_hash`.
      muls, primes, num_buckets: integers, or an int64 tensor, one entry a hash; for columns one for all, or a list of such.
        Primes, which are not checked to be prime, and buckets are from 1 to 2**62.
    """
    columns = as_columns(values)
    lists = [
        _lists_of(found, len(columns), is_many(values), name)
        for found, name in ((muls, "muls"), (primes, "primes"), (num_buckets, "num_buckets"))
    ]
    made = _hashed(columns, [_rule(*found) for found in zip(*lists, strict=True)])
    return made if is_many(values) else made[0]


def _lists_of(found: Any, count: int, many: bool, name: str) -> list[list[int]]:
    """A list of numbers for each column, from one for all or one each."""
    nested = many and is_many(found) and bool(found) and (is_many(found[0]) or isinstance(found[0], Tensor))
    lists = list(found) if nested else [found] * count
    if len(lists) != count:
        raise ValueError(f"{name} must be one list for all columns, or {count}, one a column; got {len(lists)}.")
    return [numbers.tolist() if isinstance(numbers, Tensor) else list(numbers) for numbers in lists]


@lru_cache(1024)
def _standard_rule(buckets: tuple[int, ...]) -> Rule:
    if not 1 <= len(buckets) <= len(MULS):
        raise ValueError(f"num_buckets must be 1 to {len(MULS)} integers; got {len(buckets)}.")
    for bound, n in zip(PRIME_BOUNDS, buckets, strict=False):
        if not 1 <= n <= LARGEST // bound:
            raise ValueError(f"num_buckets must be from 1 to {LARGEST // bound}; got {n}.")
    primes = [largest_prime(bound * n) for bound, n in zip(PRIME_BOUNDS, buckets, strict=False)]
    return list(zip(MULS, primes, buckets, strict=False))


def _rule(muls: list[int], primes: list[int], buckets: list[int]) -> Rule:
    if not len(muls) == len(primes) == len(buckets):
        raise ValueError(
            "muls, primes and num_buckets must have one entry a hash each; "
            f"got {len(muls)}, {len(primes)} and {len(buckets)}."
        )
    for name, numbers in (("primes", primes), ("num_buckets", buckets)):
        if not all(1 <= n <= LARGEST for n in numbers):
            raise ValueError(f"{name} must be from 1 to 2**62; got {numbers}.")
    return list(zip(muls, primes, buckets, strict=True))


def largest_prime(bound: int) -> int:
    """The largest prime up to `bound`, from 2 to 2**64."""
    if not 2 <= bound <= 1 << 64:
        raise ValueError(f"bound must be from 2 to 2**64, as no prime is below 2; got {bound}.")
    while not _is_prime(bound):
        bound -= 1
    return bound


def _is_prime(n: int) -> bool:
    """Miller and Rabin's test, by witnesses that decide all numbers of 64 bits."""
    if n < 2 or any(n % p == 0 for p in WITNESSES):
        return n in WITNESSES
    odd = n - 1
    twos = (odd & -odd).bit_length() - 1
    return all(_passes(pow(witness, odd >> twos, n), twos, n) for witness in WITNESSES)


def _passes(x: int, twos: int, n: int) -> bool:
    if x in (1, n - 1):
        return True
    for _ in range(twos - 1):
        x = x * x % n
        if x == n - 1:
            return True
    return False


def _hashed(columns: list[Column], rules: list[Rule]) -> list[list[Any]]:
    ids = values_of(columns, (torch.int64,))
    found = (_by_loops if not ids or runs_loops(ids[0].device) else _by_torch)(ids, rules)
    return [[as_before(column, part) for part in hashes] for column, hashes in zip(columns, found, strict=True)]


def _by_torch(ids: list[Tensor], rules: list[Rule]) -> list[list[Tensor]]:
    """All hashes of all columns at once, int64 [J, N]; where a column has fewer, the others are 0."""
    device, widest = ids[0].device, max(map(len, rules))
    numbers = torch.tensor([rule + [(1, 1, 1)] * (widest - len(rule)) for rule in rules], device=device).view(
        -1, widest, 3
    )
    column = column_of_each(ids)
    muls, primes, buckets = numbers[column].permute(2, 1, 0)
    parts = (joined(ids, device) * muls % primes % buckets).split([part.numel() for part in ids], 1)
    shaped = zip(parts, ids, rules, strict=True)
    return [[hashes.view(of.shape) for hashes in part[: len(rule)]] for part, of, rule in shaped]


def _by_loops(ids: list[Tensor], rules: list[Rule]) -> list[list[Tensor]]:
    from recis_core.backends.column_loops.multi_hash import hash_columns  # loads numba

    ids = [part.contiguous() for part in ids]
    numbers = np.array([numbers for rule in rules for numbers in rule], np.int64).reshape(-1, 3)
    sizes, widths = [part.numel() for part in ids], [len(rule) for rule in rules]
    outs = starts_of([size * width for size, width in zip(sizes, widths, strict=True)])
    out = torch.empty(int(outs[-1]), dtype=torch.int64, device="cpu")
    hash_columns(addresses(ids), starts_of(sizes), starts_of(widths), numbers, outs, out.numpy())
    shapes = [(width, *part.shape) for width, part in zip(widths, ids, strict=True)]
    return [list(out[beg:end].view(shape)) for (beg, end), shape in zip(pairwise(outs.tolist()), shapes, strict=True)]
