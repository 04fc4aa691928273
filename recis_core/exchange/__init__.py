"""What leaves the process: packets of rows, and streams of them to serving."""

from backends.errors import PacketError, StreamGap
from recis_core.exchange.packet import Packet, decode, encode

__all__ = ["Packet", "PacketError", "StreamGap", "decode", "encode"]
