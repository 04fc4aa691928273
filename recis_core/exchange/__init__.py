"""What ranks send each other, and what leaves the process: how precisely, in which bytes, in which packets."""

from backends.errors import PacketError, StreamGap
from recis_core.exchange.packet import Packet, decode, encode

__all__ = ["Packet", "PacketError", "StreamGap", "decode", "encode"]
