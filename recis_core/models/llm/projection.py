"""Between the width of a decoder and the dims of tables."""

from __future__ import annotations

from torch import Tensor, nn


class Projection(nn.Module):
    """A linear layer without bias, or nothing where both widths are equal. Computes in the dtype of its weight, which FSDP2
    may cast, and leaves vectors as they are where there is none."""

    def __init__(self, width: int, into: int) -> None:
        super().__init__()
        self.linear = None if width == into else nn.Linear(width, into, bias=False)

    def forward(self, vectors: Tensor) -> Tensor:
        """[N, width] -> [N, into]."""
        if self.linear is None:
            return vectors
        projected: Tensor = self.linear(vectors.to(self.linear.weight.dtype))
        return projected
