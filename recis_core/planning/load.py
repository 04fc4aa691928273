"""All tables' memory and traffic on each rank, and what the step's communication takes.

Sizes: P ranks. Ranks' loads differ by whole tables, which they own or do not, and by what the hash
happens to give them; the second is the same for all in advance, and only its spread is known.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from recis_core.planning.cluster import Cluster
from recis_core.planning.memory import Footprint
from recis_core.planning.traffic import GRADIENTS, IDS, ROWS, Flow, owner_variance

PHASES = {"ids": IDS, "rows": ROWS, "gradients": GRADIENTS}


@dataclass(frozen=True)
class Effect:
    """What one table under one sharding adds."""

    flow: Flow
    footprint: Footprint


@dataclass
class Load:
    """Sums over tables. Between a requester and owner j: shared + owned[:, j] bytes of ids, rows, gradients."""

    cluster: Cluster
    shared: np.ndarray = field(default_factory=lambda: np.zeros(3))
    drawn: np.ndarray = field(default_factory=lambda: np.zeros(3))
    hashed: np.ndarray = field(default_factory=lambda: np.zeros(3))
    reduced: float = 0.0
    owned: np.ndarray = field(init=False)  # [3, P]
    mean_memory: np.ndarray = field(init=False)  # [P]
    memory: np.ndarray = field(init=False)  # [P], with the hash's expected worst

    def __post_init__(self) -> None:
        self.owned = np.zeros((3, self.cluster.world))
        self.mean_memory, self.memory = np.zeros(self.cluster.world), np.zeros(self.cluster.world)

    def add(self, effect: Effect, sign: int = 1) -> None:
        """Add one table, or with sign −1 take it away."""
        flow, footprint = effect.flow, effect.footprint
        if flow.owner is None:
            self.shared = self.shared + sign * flow.pair
        else:
            self.owned[:, flow.owner] += sign * flow.pair
        self.drawn = self.drawn + sign * flow.drawn
        self.hashed = self.hashed + sign * flow.hashed
        self.reduced += sign * flow.reduced
        ranks = slice(None) if footprint.owner is None else footprint.owner
        self.mean_memory[ranks] += sign * footprint.mean
        self.memory[ranks] += sign * footprint.fullest

    def of_owners(self) -> tuple[np.ndarray, np.ndarray]:
        """Bytes an owner exchanges, as expected: with ranks of its node, and with others. Each [3, P]."""
        each = self.shared[:, None] + self.owned
        return self.cluster.near * each, self.cluster.far * each

    def of_requesters(self) -> tuple[np.ndarray, np.ndarray]:
        """Bytes a requester exchanges, likewise."""
        world, size = self.cluster.world, self.cluster.per_node
        in_node = np.repeat(self.owned.reshape(3, -1, size).sum(2), size, axis=1)
        everywhere = self.owned.sum(1, keepdims=True)
        near = self.cluster.near * self.shared[:, None] + in_node - self.owned
        far = (world - size) * self.shared[:, None] + everywhere - in_node
        return near, far

    def sent_and_received(self, link: int) -> tuple[np.ndarray, np.ndarray]:
        """Bytes of ids, rows and gradients that each rank sends, and receives, inside its node (0) or out of it (1).

        Requesters send ids and gradients, owners rows. Each [3, P].
        """
        owner, requester = self.of_owners()[link], self.of_requesters()[link]
        rows = np.arange(3)[:, None] == ROWS
        return np.where(rows, owner, requester), np.where(rows, requester, owner)

    def busiest_pair(self, link: int) -> tuple[float, float]:
        """Bytes from one rank to another, forward and backward: i's ids and answers to j, i's gradients to j."""
        ids = self._largest_partner(self.owned[IDS], link)
        forward = self.shared[[IDS, ROWS]].sum() + (ids + self.owned[ROWS]).max()
        return float(forward), float(self.shared[GRADIENTS] + self.owned[GRADIENTS].max())

    def _largest_partner(self, x: np.ndarray, link: int) -> np.ndarray:
        """For each rank the largest x of its partners by that link, [P]."""
        by_node = x.reshape(-1, self.cluster.per_node)
        if link == 0:
            return _largest_other(by_node).reshape(-1)
        return np.repeat(_largest_other(by_node.max(1)[None, :])[0], self.cluster.per_node)

    def excess(self) -> np.ndarray:
        """What the busiest owner is expected to exchange above the mean: [2, 3], inside its node and out of it."""
        partners = (self.cluster.near, self.cluster.far)
        variance = [owner_variance(self.drawn, self.hashed, n, self.cluster.world) for n in partners]
        return self.cluster.excess * np.sqrt(np.maximum(variance, 0.0))

    def seconds(self) -> dict[str, float]:
        """Each exchange, as its slowest rank takes; bandwidth only, without latency."""
        slowest = np.maximum(*(self._link_seconds(n) for n in (0, 1)))
        phases = {name: float(slowest[row]) for name, row in PHASES.items()}
        return phases | {"all-reduce": self.cluster.reduce_seconds(self.reduced)}

    def step_seconds(self) -> float:
        return sum(self.seconds().values())

    def _link_seconds(self, link: int) -> np.ndarray:
        speed = (self.cluster.intra, self.cluster.inter)[link]
        owners = self.of_owners()[link].max(1) + self.excess()[link]
        return np.maximum(owners, self.of_requesters()[link].max(1)) / speed


def _largest_other(x: np.ndarray) -> np.ndarray:
    """For each element the largest of the others in its line; 0 where it is alone. [n, k] -> [n, k]."""
    if x.shape[1] == 1:
        return np.zeros_like(x)
    second, first = np.partition(x, -2, axis=1)[:, -2:].T
    at = np.arange(x.shape[1]) == x.argmax(1)[:, None]
    return np.where(at, second[:, None], first[:, None])
