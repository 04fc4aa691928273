"""What one forward asks for: keys that leave this rank, keys that come to it, and what its backward needs.

Sizes: N ids, U unique keys, n keys of one rank, D dim.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from recis_core.backends import LookupMode
from recis_core.backends.records import Request
from recis_core.exchange.keys import SortedKeys


@dataclass(frozen=True)
class KeyRequest:
    """A call's unique keys, sorted for travel; its requests, each with the places of its ids among them, int32 [N]."""

    mode: LookupMode
    keys: SortedKeys
    parts: list[tuple[Request, Tensor]]


@dataclass(frozen=True)
class IncomingRequest:
    """Keys that one rank asks this one for: ids int64, ordinals int32 [n]; counts int32 [n] where rows are admitted by them."""

    ids: Tensor
    ordinals: Tensor
    counts: Tensor | None


@dataclass
class LastRequests:
    """Keys that all ranks asked this one for in the last training forward: ids int64 and ordinals int32 of each rank."""

    number: int = -1
    keys: list[tuple[Tensor, Tensor]] = field(default_factory=list)


@dataclass(frozen=True)
class SavedForward:
    """What a backward needs. rows: float32 [U, D], kept only where weights need gradients. number: of the forward."""

    request: KeyRequest
    rows: Tensor | None
    weights_need_grad: tuple[bool, ...]
    number: int
