"""Hashes of texts and ids to 64 bits: FarmHash, MurmurHash64A, sdbm, djb2, and XXH3 for Arrow's text.

Each function takes one column, or a list of columns in one call. Columns on the CPU go through compiled loops, or through
plain torch under RECIS_BACKEND=torch; columns on other devices go through plain torch. Both give the same bits.
"""

from recis_core.hashing.byte_lists import djb2, farmhash, murmurhash, sdbm
from recis_core.hashing.decimals import decimal_multi_hash, hash_decimals
from recis_core.hashing.pairs import murmur_pairs
from recis_core.hashing.texts import hash_texts

__all__ = [
    "decimal_multi_hash",
    "djb2",
    "farmhash",
    "hash_decimals",
    "hash_texts",
    "murmur_pairs",
    "murmurhash",
    "sdbm",
]
