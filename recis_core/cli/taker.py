"""Who takes batches of files."""

from __future__ import annotations

from dataclasses import dataclass

from recis_core.io.dataset import Dataset


@dataclass(frozen=True)
class Taker:
    """Who takes batches, and where to: one of `world` ranks, which together take each batch, and its device."""

    rank: int = 0
    world: int = 1
    device: str = "cpu"

    def of(self, dataset: Dataset) -> Dataset:
        dataset.device = self.device
        dataset.share_batches(self.rank, self.world)
        return dataset


ALONE = Taker()
