"""All ranks' parts of a table's state on one rank or on each, where one rank alone will write it.

    head, JSON: [key, dtype, shape] of each tensor | their bytes, one after another

Sizes: W ranks.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from types import FrameType

import torch
import torch.distributed as dist
from torch import Tensor

from recis_core.channel.channel import Channel

ASKER = ("torch.distributed.checkpoint.state_dict", "_get_model_state_dict")


def whole_is_asked() -> tuple[bool, bool]:
    """(whether get_model_state_dict wants a full_state_dict, whether on rank 0 only).

    It hands its options to no module, and drops what other ranks hold. So they are read from its frame above this one.
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if (frame.f_globals.get("__name__"), frame.f_code.co_name) == ASKER:
            info = frame.f_locals["info"]
            return info.full_state_dict, info.full_state_dict and info.cpu_offload
        frame = frame.f_back
    return False, False


def of_all_ranks(
    channel: Channel, mine: Callable[[], Mapping[str, Tensor]], name: str, *, only_first: bool
) -> dict[str, Tensor]:
    """All ranks' tensors of the table `name` on the CPU, by key. Collective.

    only_first: rank 0 of the job gets all of them; the other ranks get their own.
    """
    with channel.failing_together("state_dict"):
        parts = mine()
        head, body = _laid({key: tensor.cpu().contiguous() for key, tensor in parts.items()})
        goes_to = [not only_first or rank == 0 for rank in dist.get_process_group_ranks(channel.parent)]
        counts = torch.tensor([[len(head) * goes, len(body) * goes] for goes in goes_to])
        message = torch.cat([head, body])
    theirs, arrived = channel.swap(
        "state_dict", [message[: len(message) * goes] for goes in goes_to],
        lambda theirs: theirs.sum(1).tolist(), "state", about=(name, only_first), counts=counts,
        here=lambda: f"Here: table {name!r}.",
    )  # fmt: skip
    whole = dict(parts)
    for part, (cut, _) in zip(arrived, theirs.tolist(), strict=True):
        whole.update(_read(part[:cut].cpu(), part[cut:].cpu()))
    return whole


def _laid(tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    head = json.dumps([[key, str(t.dtype).removeprefix("torch."), list(t.shape)] for key, t in tensors.items()])
    body = [t.view(torch.uint8).flatten() for t in tensors.values()]
    return torch.frombuffer(bytearray(head.encode()), dtype=torch.uint8), torch.cat([torch.empty(0).byte(), *body])


def _read(head: Tensor, body: Tensor) -> Iterator[tuple[str, Tensor]]:
    at = 0
    for key, name, shape in json.loads(head.numpy().tobytes() or "[]"):
        dtype = getattr(torch, name)
        end = at + dtype.itemsize * math.prod(shape)
        yield key, body[at:end].clone().view(dtype).reshape(shape)
        at = end
