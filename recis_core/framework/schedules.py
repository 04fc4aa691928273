"""Learning-rate schedulers of a run: which there are, and when each steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

Schedulers = LRScheduler | Iterable[LRScheduler] | Mapping[str, LRScheduler] | None


class Schedules:
    """by_name: as given, or numbered by their order.

    A scheduler of the joint optimizer drives the groups of both sides; one of joint.dense or of joint.sparse its own.
    ReduceLROnPlateau steps after an evaluation, by the metric `plateau`; the others after each optimizer step.

    Raises:
      TypeError: one is no scheduler. ValueError: a ReduceLROnPlateau has no metric.
    """

    def __init__(self, schedulers: Schedulers, plateau: str | None) -> None:
        self.by_name = _by_name(schedulers)
        self._plateau = plateau
        for name, scheduler in self.by_name.items():
            if not isinstance(scheduler, LRScheduler):
                raise TypeError(
                    f"scheduler {name!r} must be one of torch.optim.lr_scheduler; got {type(scheduler).__name__}."
                )
        self._by_metric = [s for s in self.by_name.values() if isinstance(s, ReduceLROnPlateau)]
        self._by_step = [s for s in self.by_name.values() if not isinstance(s, ReduceLROnPlateau)]
        if self._by_metric and plateau is None:
            raise ValueError("ReduceLROnPlateau steps by a metric: TrainingArguments(metric_for_best=…) must name it.")

    def after_step(self) -> None:
        for scheduler in self._by_step:
            scheduler.step()

    def after_evaluation(self, metrics: Mapping[str, float]) -> None:
        """Raises KeyError if the metric is not among them."""
        for scheduler in self._by_metric:
            if self._plateau is None or self._plateau not in metrics:
                raise KeyError(
                    f"metric_for_best={self._plateau!r} must be a metric of the evaluation; got {list(metrics)}."
                )
            scheduler.step(metrics[self._plateau])


def _by_name(schedulers: Any) -> dict[str, Any]:
    if schedulers is None:
        return {}
    if isinstance(schedulers, Mapping):
        return dict(schedulers)
    if isinstance(schedulers, LRScheduler):
        return {"0": schedulers}
    if isinstance(schedulers, Iterable):
        return {str(k): scheduler for k, scheduler in enumerate(schedulers)}
    raise TypeError(f"schedulers must be one of torch's, a list or a dict of them; got {type(schedulers).__name__}.")
