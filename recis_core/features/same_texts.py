"""Whether texts are the entries that they were taken for, by their bytes: two texts may have one hash.

Sizes: N texts, V entries.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from recis_core.features.memory import array
from recis_core.hashing.columns import runs_loops

Texts = tuple[Tensor, Tensor]  # letters uint8, offsets int64 [N + 1]


def letters_of(texts: Sequence[str]) -> Texts:
    """The UTF-8 of texts, on the CPU."""
    encoded = [text.encode() for text in texts]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return torch.from_numpy(np.frombuffer(b"".join(encoded), np.uint8).copy()), torch.from_numpy(offsets)


def keep_same(texts: Texts, entries: Texts, found: Tensor) -> Tensor:
    """found int64 [N], positions among V entries or -1; with -1 also where text n has other bytes than its entry."""
    letters = texts[0].view(torch.uint8)
    if not runs_loops(found.device):
        return _in_torch((letters, texts[1]), entries, found)
    from recis_core.backends.feature_loops.same_texts import keep_same as loop  # loads numba

    kept = array(found).copy()
    loop(array(letters), array(texts[1]), *map(array, entries), kept)
    return torch.from_numpy(kept)


def _in_torch(texts: Texts, entries: Texts, found: Tensor) -> Tensor:
    lengths, wanted = texts[1].diff(), entries[1].diff()
    taken = found.clamp(min=0)
    alike = (found >= 0) & (lengths == wanted[taken]) if len(wanted) else torch.zeros_like(found, dtype=torch.bool)
    chosen = alike.nonzero()[:, 0]
    counts = lengths[chosen]
    total = int(counts.sum())
    row = torch.repeat_interleave(torch.arange(len(chosen), device=found.device), counts, output_size=total)
    at = torch.arange(total, device=found.device) - (counts.cumsum(0) - counts)[row]
    mine, theirs = texts[1][chosen][row] + at, entries[1][taken[chosen]][row] + at
    apart = (texts[0][mine] != entries[0][theirs]).to(torch.int64)
    differing = torch.zeros_like(chosen).index_add(0, row, apart)
    alike = alike.index_copy(0, chosen, differing == 0)
    return torch.where(alike, found, -1)
