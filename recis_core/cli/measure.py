"""Metrics that --metrics names, measured while a model is evaluated: auc, gauc:user_id, recall@10:query.

Sizes: B rows of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from recis_core.channel.channel import Channel
from recis_core.cli.columns import LABEL, field_name
from recis_core.exchange.gathering import gathered
from recis_core.framework.window_auc import WindowAUC
from recis_core.metrics import Metric, metric_of
from recis_core.ragged import RaggedTensor

GROUPS = "/groups/"  # before a column's name: a batch's key, which no field has


@dataclass(frozen=True)
class Asked:
    """said: as the flag has it. group: the column of its groups; None of a metric without groups."""

    said: str
    metric: str
    group: str | None


def asked(flags: Sequence[str]) -> list[Asked]:
    """The metrics of --metrics, each word of which may be several by comma.

    Raises:
      ValueError: there is no such metric, its column is missing or is one too many, or it is named twice.
    """
    words = [word.strip() for each in flags for word in each.split(",")]
    for n, word in enumerate(words):
        if word in words[:n]:
            raise ValueError(f"--metrics names {word!r} twice.")
    return [_asked(word) for word in words]


def _asked(said: str) -> Asked:
    name, colon, column = said.partition(":")
    try:
        made = metric_of(name)
    except ValueError as error:
        raise ValueError(f"--metrics: {error}") from None
    if made.grouped and not column:
        raise ValueError(f"--metrics {said} needs the column of its groups, as {name}:user_id.")
    if colon and not made.grouped:
        raise ValueError(f"--metrics {said}: {name} takes no groups; leave {colon}{column} out.")
    return Asked(said, name, column or None)


def group_columns(metrics: Iterable[Asked]) -> list[str]:
    """Each column once."""
    return list(dict.fromkeys(each.group for each in metrics if each.group is not None))


BESIDE = ("auc", "logloss")  # what every evaluation has


def by_name(flags: Sequence[str]) -> dict[str, Asked]:
    """What --keep-best may name: BESIDE, and metrics of --metrics without their columns, but those of several columns."""
    found = {each: Asked(each, each, None) for each in BESIDE}
    given = asked(flags)
    names = [each.metric for each in given]
    return found | {each.metric: each for each in given if names.count(each.metric) == 1}


def trainer_metrics(named: Mapping[str, Asked]) -> dict[str, Any]:
    """For a Trainer: {name: (metric, what it is given of predictions and a batch)}."""

    def given(group: str | None, p: Tensor, batch: Mapping[str, Any]) -> tuple[Any, ...]:
        return (p, batch[LABEL]) if group is None else (p, batch[LABEL], groups_of(batch, group))

    made = {name: WindowAUC() if each.metric == "auc" else metric_of(each.metric) for name, each in named.items()}
    return {name: (metric, partial(given, named[name].group)) for name, metric in made.items()}


class Measured:
    """The metrics' values on what a model predicts inside `watching`."""

    def __init__(self, metrics: Sequence[Asked]) -> None:
        self._metrics: list[tuple[Asked, Metric]] = [(each, metric_of(each.metric)) for each in metrics]

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Each forward of the model inside, of a batch with labels, is measured."""
        hook = model.register_forward_hook(self._add)
        try:
            yield
        finally:
            hook.remove()

    def _add(self, model: nn.Module, inputs: tuple[Any, ...], logits: Tensor) -> None:
        batch, p = inputs[0], logits.detach().sigmoid()
        for each, metric in self._metrics:
            metric.update(p, batch[LABEL], None if each.group is None else groups_of(batch, each.group))

    def values(self, channel: Channel | None) -> dict[str, float | None]:
        """{as said: the value over all ranks, None where it is undefined}. Collective."""
        found = {}
        for each, metric in self._metrics:
            if channel is not None:
                metric.reduce(lambda part: gathered(channel, part, kind="evaluate"))
            value = metric.compute()
            found[each.said] = None if math.isnan(value) else value
        return found


def in_words(values: Mapping[str, float | None]) -> list[str]:
    return [f"{said} {'undefined' if value is None else f'{value:.4f}'}" for said, value in values.items()]


def groups_of(batch: Mapping[str, Any], column: str) -> Tensor:
    """int64 [B]. Raises ValueError where a row holds none, or several."""
    value = batch.get(GROUPS + column, batch.get(field_name(column)))
    if isinstance(value, RaggedTensor):
        lengths = value.offsets()[-1].diff()
        if not bool((lengths == 1).all()):
            row = int((lengths != 1).nonzero()[0])
            raise ValueError(
                f"--metrics: a row must hold one group; column {column!r} holds {int(lengths[row])} in row {row} of a batch."
            )
        return value.values()
    return torch.as_tensor(value).reshape(-1)
