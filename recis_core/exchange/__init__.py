"""Tables over many ranks: who owns a row, and how rows and gradients travel.

Names load when they are asked for, so that `recis plan` reads shardings without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recis_core.exchange.mean_loss import global_mean
    from recis_core.exchange.packet import Packet, decode, encode
    from recis_core.exchange.precision import Precision
    from recis_core.exchange.sharding import Sharding
    from recis_core.exchange.stepping import emptied, in_step

_HOMES = {
    "Packet": "packet",
    "Precision": "precision",
    "Sharding": "sharding",
    "decode": "packet",
    "emptied": "stepping",
    "encode": "packet",
    "global_mean": "mean_loss",
    "in_step": "stepping",
}
__all__ = ["Packet", "Precision", "Sharding", "decode", "emptied", "encode", "global_mean", "in_step"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"recis_core.exchange has no {name!r}; it has {', '.join(__all__)}.")
    return getattr(import_module(f"recis_core.exchange.{_HOMES[name]}"), name)
