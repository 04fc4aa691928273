"""The ranks, in nodes, and the links between them. Sizes: P ranks, M nodes of G ranks."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

from recis_core.backends.placement import SLICE_BITS
from recis_core.planning.model_file import Links

SLICES = 1 << SLICE_BITS


@dataclass(frozen=True)
class Cluster:
    """`world` ranks; ranks n·G … n·G + G − 1 make node n.

    Args:
      intra, inter: bytes a second that a rank sends, and at once receives, inside its node and out of it.
    """

    world: int
    per_node: int
    intra: float
    inter: float

    def __post_init__(self) -> None:
        if not 1 <= self.world <= SLICES:
            raise ValueError(f"world must be in [1, {SLICES}], for a table has {SLICES} slices; got {self.world}.")
        if self.world % self.per_node:
            raise ValueError(f"world must be whole nodes of {self.per_node} ranks (ranks_per_node); got {self.world}.")

    @classmethod
    def of(cls, world: int, links: Links) -> Cluster:
        """A world of fewer ranks than a node holds is one node."""
        per_node = min(links.ranks_per_node, max(1, world))
        return cls(world, per_node, links.intra_node_gb_per_s * 1e9, links.inter_node_gb_per_s * 1e9)

    @property
    def nodes(self) -> int:
        return self.world // self.per_node

    @property
    def near(self) -> int:
        """Other ranks of a rank's node."""
        return self.per_node - 1

    @property
    def far(self) -> int:
        """Ranks of other nodes."""
        return self.world - self.per_node

    @property
    def widest_share(self) -> float:
        """Share of the hash of the rank with most slices."""
        return -(-SLICES // self.world) / SLICES

    @property
    def excess(self) -> float:
        """Standard deviations by which the largest of P normal draws exceeds the mean, expected (Blom 1958)."""
        return NormalDist().inv_cdf((self.world - 0.375) / (self.world + 0.25)) if self.world > 1 else 0.0

    def reduce_seconds(self, nbytes: float) -> float:
        """All-reduce inside nodes, between them, inside again, each rank of a node sending its share out of it."""
        inside, outside = self.reduce_bytes(nbytes)
        return inside / self.intra + outside / self.inter

    def reduce_bytes(self, nbytes: float) -> tuple[float, float]:
        """What a rank sends, and receives, in that all-reduce: (inside its node, out of it)."""
        inside = 2 * (self.per_node - 1) / self.per_node * nbytes
        return inside, 2 * (self.nodes - 1) / self.nodes * nbytes / self.per_node
