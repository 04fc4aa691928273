"""Hashes in plain Python, byte by byte, to compare with."""

from __future__ import annotations

WORD = (1 << 64) - 1
M = 0xC6A4A7935BD1E995


def signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


def murmur64a(text: bytes, seed: int = 0) -> int:
    h = seed ^ (len(text) * M & WORD)
    whole = len(text) // 8 * 8
    for at in range(0, whole, 8):
        k = int.from_bytes(text[at : at + 8], "little") * M & WORD
        h = (h ^ ((k ^ (k >> 47)) * M & WORD)) * M & WORD
    if text[whole:]:
        h = (h ^ int.from_bytes(text[whole:], "little")) * M & WORD
    h = (h ^ (h >> 47)) * M & WORD
    return signed(h ^ (h >> 47))


def sdbm(text: bytes) -> int:
    return _polynomial(text, 65599, 0)


def djb2(text: bytes) -> int:
    return _polynomial(text, 33, 5381)


def _polynomial(text: bytes, base: int, h: int) -> int:
    for byte in text:
        h = (h * base + byte) & WORD
    return signed(h)
