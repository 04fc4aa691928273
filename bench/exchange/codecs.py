"""What is compared: precisions of the exchange, and how far a row may be from what was sent."""

from __future__ import annotations

from recis_core.exchange import Precision
from recis_core.options.precision import Codec

CODECS = (
    "fp32",
    "lossless",
    "bf16",
    "fp16",
    "fp8",
    "int8",
    "int4",
    "sign+ef",
    "forward=int8,backward=int4+ef",
    "forward=int8,backward=sign+ef",
    "forward=int8,backward=topk(10%,int8)+ef",
    "forward=int8,backward=topk(10%,int8)",
    "forward=int8,backward=topk(25%,int4)+ef",
    "forward=int8,backward=topk(5%,int8)+ef",
    "forward=int4,backward=topk(10%,int4)+ef",
)

# |x − decoded| ≤ this · max|row|: half a unit in the last place, or half a step of the row's scale.
ERROR = {
    "fp32": 1e-6,  # sums in another order
    "lossless": 2**-8,  # of bfloat16, which it carries
    "bf16": 2**-8,
    "fp16": 2**-11,
    "fp8": 2**-4,
    "int8": 0.5 / 127,
    "int4": 0.5 / 7,
    "sign": 1.0,
}
SLACK = 1.01  # float32 arithmetic around the rounding


def errors(codec: str) -> tuple[float, float]:
    """(forward, backward) bound of an element's error over its row's largest, in the first step."""
    precision = Precision.parse(codec)
    return _bound(precision.forward.at(0)), _bound(precision.backward.at(0))


def _bound(codec: Codec) -> float:
    whole = codec.top is not None  # a row that was not selected is off by all of itself
    return SLACK * (1.0 if whole else ERROR[codec.row.kind])
