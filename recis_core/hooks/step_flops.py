"""Floating point operations of one step."""

from __future__ import annotations

from torch.utils.flop_counter import FlopCounterMode


class StepFlops:
    """Counts those of the dense operators, such as matrix products, between `begin` and `end`, by torch's own counter.

    flops: of the step that was counted; None before. Lookups, sums and elementwise operators count as none.
    """

    def __init__(self) -> None:
        self.flops: int | None = None
        self._counting: FlopCounterMode | None = None

    def begin(self) -> None:
        """Once; later calls do nothing."""
        if self.flops is None and self._counting is None:
            self._counting = FlopCounterMode(display=False)
            self._counting.__enter__()

    def end(self) -> None:
        counting, self._counting = self._counting, None
        if counting is not None:
            counting.__exit__(None, None, None)
            self.flops = int(counting.get_total_flops())
