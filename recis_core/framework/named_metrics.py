"""Metrics by name: what each is given of a batch, and their values over all ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from recis_core.framework.ranks import Ranks
from recis_core.metrics import Measure

Inputs = Callable[[Any, Any], tuple[Any, ...]]
Metrics = Mapping[str, Measure | tuple[Measure, Inputs]]


class NamedMetrics:
    """Args:
      metrics: {name: metric}, updated with (predictions, labels); or {name: (metric, inputs)}, updated with
        inputs(predictions, batch), a tuple, as for a metric by group. labels: from a batch to its labels.

    Raises:
      TypeError: a metric lacks update, compute or reset.
    """

    def __init__(self, metrics: Metrics, labels: Callable[[Any], Any]) -> None:
        self._labels = labels
        self._metrics: dict[str, tuple[Measure, Inputs | None]] = {}
        for name, given in metrics.items():
            metric, inputs = given if isinstance(given, tuple) else (given, None)
            lacking = [verb for verb in ("update", "compute", "reset") if not callable(getattr(metric, verb, None))]
            if lacking or (inputs is not None and not callable(inputs)):
                raise TypeError(
                    f"metric {name!r} must have update, compute and reset; {type(metric).__name__} lacks {lacking}."
                )
            persistent: Any = getattr(metric, "persistent", None)
            if isinstance(metric, nn.Module) and callable(persistent):
                persistent(True)  # torchmetrics leave their sums out of state_dict() otherwise
            self._metrics[name] = metric, inputs

    def __bool__(self) -> bool:
        return bool(self._metrics)

    def update(self, predictions: Any, batch: Any) -> None:
        for metric, inputs in self._metrics.values():
            metric.update(*(inputs(predictions, batch) if inputs else (predictions, self._labels(batch))))

    def reset(self) -> None:
        for metric, _ in self._metrics.values():
            metric.reset()

    def computed(self, ranks: Ranks) -> dict[str, float]:
        """Values over all ranks since the last reset, which follows. Collective."""
        found: dict[str, float] = {}
        for name, (metric, _) in self._metrics.items():
            reduce = getattr(metric, "reduce", None)
            if ranks.world > 1 and callable(reduce):
                reduce(lambda part: ranks.gathered(part, "evaluate"))
            found.update(_numbers(name, metric.compute()))
            metric.reset()
        return found

    def without_state(self) -> list[str]:
        """Names of metrics whose sums no checkpoint can keep."""
        verbs = ("state_dict", "load_state_dict")
        return [n for n, (m, _) in self._metrics.items() if not all(callable(getattr(m, verb, None)) for verb in verbs)]

    def state_dict(self) -> dict[str, Any]:
        """Of this rank."""
        return {name: dict(metric.state_dict()) for name, (metric, _) in self._metrics.items()}  # type: ignore[attr-defined]

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Metrics of which the state has nothing begin anew."""
        for name, (metric, _) in self._metrics.items():
            metric.reset()
            if name in state:
                metric.load_state_dict(state[name])  # type: ignore[attr-defined]


def _numbers(name: str, value: Any) -> Iterable[tuple[str, float]]:
    """A metric of several values gives one for each, `name.part`."""
    if isinstance(value, Mapping):
        return [pair for part, inner in value.items() for pair in _numbers(f"{name}.{part}", inner)]
    if isinstance(value, Tensor) and value.numel() != 1:
        raise TypeError(f"metric {name!r} must give one number, or a dict of them; got a tensor {list(value.shape)}.")
    return [(name, float(value))]
