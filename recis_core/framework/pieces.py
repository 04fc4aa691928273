"""The pieces that a Trainer is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recis_core.framework.checkpointing import Checkpointing, Manager, manager_of
from recis_core.framework.dense_side import DenseSide
from recis_core.framework.hook_calls import HookCalls
from recis_core.framework.metric_evaluation import Evaluator
from recis_core.framework.micro_batches import Reading
from recis_core.framework.named_metrics import Metrics, NamedMetrics
from recis_core.framework.objective import Objective
from recis_core.framework.optimizer_step import OptimizerStep
from recis_core.framework.phases import Phases
from recis_core.framework.rank_state import RankState
from recis_core.framework.ranks import Ranks
from recis_core.framework.read_ahead import ReadAhead
from recis_core.framework.run_state import RunState
from recis_core.framework.schedules import Schedulers, Schedules
from recis_core.framework.trainer_inputs import check_extra, check_metrics
from recis_core.hooks import Hook

if TYPE_CHECKING:
    from recis_core.framework.trainer import Trainer


@dataclass(frozen=True)
class Pieces:
    """rows: from a batch to its number of rows. empty: makes a batch without rows, or None."""

    timer: Phases
    ranks: Ranks
    hooks: HookCalls
    train_metrics: NamedMetrics
    schedules: Schedules
    one_step: OptimizerStep
    evaluator: Evaluator
    checkpoints: Checkpointing
    own: RankState
    ahead: ReadAhead
    rows: Callable[[Any], int]
    empty: Callable[[], Any] | None

    def reading(self, batches: Iterator[Any], count: int) -> Reading:
        """In groups of up to `count` batches."""
        return Reading(batches, count, self.ranks, rows=self.rows, empty=self.empty)


def assemble(
    run: Trainer,
    *,
    loss: Callable[[Any, Any], Any] | None,
    predict: Callable[[Any], Any],
    metrics: Metrics | None,
    train_metrics: Metrics | None,
    schedulers: Schedulers,
    hooks: Iterable[Hook],
    checkpoints: Manager | None,
    features: Any,
    extra: Mapping[str, Any],
    rows: Callable[[Any], int],
    empty: Callable[[], Any] | None,
) -> Pieces:
    """Of a Trainer's arguments; checkpoints are told what to keep. Collective."""
    model, args, timer, ranks = run.model, run.args, Phases(), Ranks(run.model)
    objective = Objective(loss, label=args.label, weights=args.loss_weights, predict=predict)
    measures, watched = (NamedMetrics(each or {}, objective.labels) for each in (metrics, train_metrics))
    schedules, manager = Schedules(schedulers, args.metric_for_best), manager_of(args, checkpoints, ranks.group)
    check_metrics(manager, watched)
    calls, dense = HookCalls(run, hooks, timer), DenseSide(model, args, ranks, run.optimizer)
    ahead = ReadAhead(model, run.train_dataset, args.prefetch, args.prefetch_threads)
    own = RankState(run, None if run.train_dataset is None else ahead, watched)
    parts = {
        "model": model, "optimizer": run.optimizer, "data": own, "features": features,
        "schedulers": schedules.by_name, "run": RunState(run, calls, dense.scaler),
    }  # fmt: skip
    check_extra(extra, parts)

    def watch(outputs: Any, batch: Any) -> None:
        watched.update(objective.predictions(outputs), batch)

    one_step = OptimizerStep(
        model, run.optimizer, objective, dense, ranks, calls, timer,
        max_grad_norm=args.max_grad_norm, observe=watch if watched else None,
    )  # fmt: skip
    evaluator = Evaluator(model, objective, measures, ranks, autocast=dense.autocast)
    kept = Checkpointing(manager, {**parts, **extra}, ranks.group)
    return Pieces(timer, ranks, calls, watched, schedules, one_step, evaluator, kept, own, ahead, rows, empty)
