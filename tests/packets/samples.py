"""Packets whose content is fixed, one for each codec: what golden files hold and what fuzzing starts from."""

import torch

from recis_core.exchange import encode
from recis_core.packets.packet import encode_commit
from recis_core.packets.packet_codec import ROW_CODECS

STREAM = bytes(range(16))
IDS = torch.tensor([3, -1, 2**63 - 1, -(2**63), 2**53 + 1, 3], dtype=torch.int64)


def rows(dim=7):
    """Ordinary numbers, zeros, signed zeros, a row with NaN and inf, sizes far apart, and a subnormal."""
    values = ((torch.arange(6 * dim) * 37 % 101) - 50).float().reshape(6, dim) / 16
    values[1] = 0.0
    values[2, 0] = -0.0
    values[3, 1], values[3, 2] = float("nan"), float("-inf")
    values[4] *= torch.tensor([2.0**k for k in range(-60, -60 + 20 * dim, 20)])
    values[5, 0] = 1e-40
    return values


def arguments(codec, id_codec="packed"):
    """Of encode."""
    return {
        "table": "user·item",
        "ids": IDS,
        "rows": rows(),
        "codec": codec,
        "id_codec": id_codec,
        "erased": torch.tensor([12, -12]),
        "slots": {"exp_avg": rows(), "step": torch.arange(6.0)[:, None]},
        "stream": STREAM,
        "base": 41,
        "version": 2**40,
        "sequence": 3,
    }


def packets():
    """{name: bytes}."""
    made = {codec: encode(**arguments(codec)) for codec in ROW_CODECS}
    made["raw_ids"] = encode(**arguments("fp32", "raw"))
    made["empty"] = encode(table="t", ids=IDS[:0], rows=rows()[:0], codec="int4", id_codec="packed")
    made["commit"] = encode_commit(stream=STREAM, base=41, version=2**40, sequence=4)
    return made
