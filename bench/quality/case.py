"""One model and the figure that it is to reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training came to.

    Args:
      figures: {name: value on data not trained on}; more is better.
      best: the same figures of the truth that the data were drawn from, where that is known.
      seconds: wall time of the training, without making data and without the evaluation.
    """

    figures: Mapping[str, float]
    seconds: float
    best: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model, its data and its goals.

    Args:
      name: of the model, as users import it. data: in words, for the table.
      train: from a seed, the model's training. peer: the same of a peer, from the same seed; None without one.
      peer_name: of the peer, in words.
      below_best, below_peer: {figure: how far below that of the truth, or of the peer, its mean over seeds may lie}.

    Raises:
      ValueError: there is no goal, or a goal beside a peer without a peer.
    """

    name: str
    data: str
    train: Callable[[int], Trained]
    peer: Callable[[int], Trained] | None = None
    peer_name: str | None = None
    below_best: Mapping[str, float] = field(default_factory=dict)
    below_peer: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (self.below_best or self.below_peer):
            raise ValueError(f"{self.name} needs a goal: below_best or below_peer.")
        if (self.peer is None) != (self.peer_name is None) or (self.below_peer and self.peer is None):
            raise ValueError(f"{self.name} needs peer and peer_name together, and both for below_peer.")
