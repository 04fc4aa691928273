"""Tables over many ranks: who owns a row, and how rows and gradients travel.

Names load when they are asked for, so that `recis plan` reads shardings without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recis_core.exchange.mean_loss import global_mean
    from recis_core.exchange.stepping import emptied, in_step
    from recis_core.options.precision import Precision
    from recis_core.options.sharding import Sharding
    from recis_core.packets.packet import Packet, decode, encode

_HOMES = {
    "Packet": "packets.packet",
    "Precision": "options.precision",
    "Sharding": "options.sharding",
    "decode": "packets.packet",
    "emptied": "exchange.stepping",
    "encode": "packets.packet",
    "global_mean": "exchange.mean_loss",
    "in_step": "exchange.stepping",
}
__all__ = ["Packet", "Precision", "Sharding", "decode", "emptied", "encode", "global_mean", "in_step"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"recis_core.exchange has no {name!r}; it has {', '.join(__all__)}.")
    return getattr(import_module(f"recis_core.{_HOMES[name]}"), name)
