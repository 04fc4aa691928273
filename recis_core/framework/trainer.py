"""Trains a model: steps, epochs and windows, with hooks, evaluation and checkpoints.

Sizes: B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from recis_core.backends.errors import RecisError
from recis_core.framework.checkpointing import Manager
from recis_core.framework.counted_batches import with_position
from recis_core.framework.listening import current, ending_unless_handled
from recis_core.framework.micro_batches import MicroBatches, rows_in
from recis_core.framework.named_metrics import Metrics
from recis_core.framework.pieces import assemble
from recis_core.framework.schedules import Schedulers
from recis_core.framework.seeding import seed_all
from recis_core.framework.trainer_inputs import check_inputs, from_the_start
from recis_core.framework.training_arguments import TrainingArguments
from recis_core.framework.training_course import run_course
from recis_core.hooks import Hook, StepResult
from recis_core.io.windows import Windows
from recis_core.optim import JointOptimizer, SparseOptimizer, join

Pair = tuple[torch.optim.Optimizer, SparseOptimizer]


class Trainer:
    """Trains a model with one optimizer over its dense side and its tables; satisfies hooks.Run.

    Where ranks share the model's tables, each has a Trainer over its own data, as much as it has: a rank at the end of its
    data takes part with empty batches until all are at theirs. Every method is then collective, and losses, metrics and
    counts are of all ranks.

    Args:
      model: batch -> a loss, losses by name, or outputs for `loss`; see Objective.
      args: TrainingArguments. train_dataset: batches, to iterate over once an epoch; or recis_core.io.Windows of them. What
        has state_dict() and load_state_dict() keeps its position by them; of other data batches are counted, so their order
        must be the same each time.
      eval_dataset: batches to evaluate on; windows bring their own.
      optimizers: an optimizer of optim.join, or a pair (dense, sparse), which is joined.
      schedulers: one of torch's, or several, in a list or by name: stepped after each optimizer step.
      loss, predict, label in args: see Objective. metrics: of evaluations, by name; see NamedMetrics. train_metrics: of the
        predictions made before each update, given in StepResult.metrics every args.log_steps.
      hooks: called in this order. checkpoints: a CheckpointManager; None makes one if args.output_dir is given. features: a
        FeatureEngine that a checkpoint keeps, too. extra: {name: object with state_dict and load_state_dict, equal on all
        ranks}, which it keeps as well.
      rows: from a batch to its number of rows; by default the length of its first value.
      empty: makes a batch without rows; by default this rank's last batch without its rows.

    step, rows, epoch, window: how many are done, rows of all ranks; epoch_in_window: passes over the window in work.
    last_metrics: of the latest evaluation, by name, which was at step `measured_at`.
    mid_epoch: 1 inside of a pass; at_end: whether this rank's data has given the last batch of that pass.
    phases: {phase: wall seconds so far}, see Phases. stopped_by: why training ended before its time; None where it did not.

    Raises:
      TypeError, ValueError: an argument does not fit; names it. RecisError: see Ranks and DenseSide.
    """

    def __init__(
        self,
        model: nn.Module,
        args: TrainingArguments,
        train_dataset: Iterable[Any] | None = None,
        eval_dataset: Iterable[Any] | None = None,
        *,
        optimizers: JointOptimizer | Pair,
        schedulers: Schedulers = None,
        loss: Callable[[Any, Any], Any] | None = None,
        predict: Callable[[Any], Any] = torch.sigmoid,
        metrics: Metrics | None = None,
        train_metrics: Metrics | None = None,
        hooks: Iterable[Hook] = (),
        checkpoints: Manager | None = None,
        features: Any = None,
        extra: Mapping[str, Any] | None = None,
        rows: Callable[[Any], int] = rows_in,
        empty: Callable[[], Any] | None = None,
    ) -> None:
        check_inputs(model, args, eval_dataset, train_dataset, optimizers)
        self.model, self.args = model, args
        self.optimizer = optimizers if isinstance(optimizers, JointOptimizer) else join(*optimizers)
        self.train_dataset = None if train_dataset is None else with_position(train_dataset)
        self.eval_dataset = eval_dataset
        self.step = self.rows = self.epoch = self.window = self.epoch_in_window = self.mid_epoch = 0
        self.at_end = False
        self.measured_at: int | None = None
        self.stopped_by: str | None = None
        self.last_metrics: Mapping[str, float] = {}
        self._max_steps = args.train_steps
        self._pieces = assemble(
            self, loss=loss, predict=predict, metrics=metrics, train_metrics=train_metrics, schedulers=schedulers,
            hooks=hooks, checkpoints=checkpoints, features=features, extra=extra or {}, rows=rows, empty=empty,
        )  # fmt: skip
        self.phases: Mapping[str, float] = MappingProxyType(self._pieces.timer.seconds)
        if args.seed is not None:
            seed_all(args.seed)

    def train(self, train_steps: int | None = None) -> None:
        """Train to the end: train_steps steps in all, or args.train_steps, or args.train_epoch passes over the data.

        It goes on where an earlier call, or restore(), left it. Ctrl-C and SIGTERM end it after the step under way; a second
        Ctrl-C at once. Where there are checkpoints, one of the last step is saved.

        Raises:
          SystemExit: a signal ended it; of status 130 or 143. In an interactive session KeyboardInterrupt; inside
            ending_on_signals() Stopped, which becomes SystemExit at its end. RecisError: there is no train_dataset. What the
            model, hooks or data raise.
        """
        self._run(train_steps, evaluate=False)

    def train_and_evaluate(self, train_steps: int | None = None) -> dict[str, float]:
        """As train; and evaluate after each epoch, or each window on the next one, and at the end; the last metrics."""
        if self.eval_dataset is None and not isinstance(self.train_dataset, Windows):
            raise RecisError("train_and_evaluate needs data to evaluate on; give the Trainer an eval_dataset.")
        self._run(train_steps, evaluate=True)
        return dict(self.last_metrics)

    def _run(self, train_steps: int | None, evaluate: bool) -> None:
        if self.train_dataset is None:
            raise RecisError(
                "this Trainer has nothing to train on; give it a train_dataset, or call step(batches) yourself."
            )
        self.stopped_by = None
        self._max_steps = self.args.train_steps if train_steps is None else train_steps
        with ending_unless_handled() if self.args.end_on_signals else nullcontext():
            run_course(self, self._pieces, evaluate=evaluate)

    def train_step(self, batches: Sequence[Any]) -> StepResult:
        """One optimizer step over these batches of this rank, as few as none, as if they were one batch. Collective.

        For loops of your own: hooks' before_step, after_backward and after_step are called, and nothing is evaluated or
        saved.

        Raises:
          ValueError: no rank has a row.
        """
        group = self._pieces.reading(iter(()), 1).of(batches)
        if group is None or not group.total:
            raise ValueError("a step needs a row on one rank at least; got none. Leave the step out on every rank.")
        return self.train_on(group)

    def train_on(self, group: MicroBatches) -> StepResult:
        """train_step of batches on which the ranks have agreed."""
        done = self._pieces.one_step(group)
        self.step, self.rows = self.step + 1, self.rows + group.total
        if done.stepped:
            self._pieces.schedules.after_step()
        watched = self._pieces.train_metrics
        seen = watched.computed(self._pieces.ranks) if watched and self.step % self.args.log_steps == 0 else {}
        losses = dict(done.means)
        result = StepResult(self.step, losses.pop("loss"), group.total, losses, seen)
        self._pieces.hooks.call("after_step", result)
        return result

    def evaluate(self, dataset: Iterable[Any] | None = None) -> dict[str, float]:
        """{"loss": …, losses and metrics by name} of all rows of dataset, or of eval_dataset. See evaluate_metrics.

        A data set with set_epoch() is read from the start of its epoch 0 each time. {} where a signal ends training meanwhile.

        Raises:
          RecisError: there is no such data. ValueError: it has no row, or it is the train_dataset.
        """
        data = self.eval_dataset if dataset is None else dataset
        if data is None:
            raise RecisError(
                "this Trainer has nothing to evaluate on; give it an eval_dataset, or call evaluate(dataset)."
            )
        if data is self.train_dataset:
            raise ValueError(
                "the data set that is trained on cannot be read anew meanwhile, for it has one position; evaluate on another "
                "object of the same files."
            )
        self._pieces.hooks.call("before_evaluate")
        with self._pieces.timer("evaluating"):
            found = self._evaluated(data)
        if found is None:
            return {}
        self.last_metrics, self.measured_at = found, self.step
        self._pieces.checkpoints.saved_at = None  # one that was saved before this evaluation has no metrics
        self._pieces.schedules.after_evaluation(found)
        self._pieces.hooks.call("after_evaluate", found)
        return dict(found)

    def _evaluated(self, data: Iterable[Any]) -> dict[str, float] | None:
        """None where a signal ended it."""
        ending, exchange = current(), self._pieces.ranks.exchange
        from_the_start(data)
        found = self._pieces.evaluator.on(self._pieces.reading(iter(data), 1), lambda: ending.wanted(exchange))
        from_the_start(data)  # a checkpoint of what follows tells of no evaluation in work
        return found

    def save(self) -> Any:
        """Save a checkpoint of this step, with the metrics of an evaluation at this step; where it will lie. Collective.

        Raises:
          RecisError: there are no checkpoints. What the manager raises, an earlier save's failure included.
        """
        self._pieces.hooks.call("before_save")
        metrics = self.last_metrics if self.measured_at == self.step else None
        with self._pieces.timer("saving"):
            path = self._pieces.checkpoints.save(self.step, None if metrics is None else dict(metrics))
        self._pieces.hooks.call("after_save", path)
        return path

    def restore(self, step: int | None = None, *, path: Any = None, **how: Any) -> Any:
        """Go on from a checkpoint: the latest one, or of that step; None where there is none and no step is named.

        At the same number of ranks the rest of the run has the same bits as if it had never ended. Collective.

        Args:
          path: a checkpoint elsewhere, or a directory of them, whose latest counts; in place of step.
          how: load, exclude, rename, sources, slots of CheckpointManager.restore; with `path` no sources.
        """
        if path is not None and step is not None:
            raise ValueError(f"restore takes a step of this run's checkpoints, or a path; got {step} and {path}.")
        with self._pieces.timer("saving"):
            kept = self._pieces.checkpoints
            restored = kept.restore(step, how) if path is None else kept.restore_from(path, how)
        if restored is not None and self.mid_epoch and self._pieces.own.of_another_world:
            # Ranks share out what is left of the pass; a rank that finds nothing there must not begin the next one.
            getattr(self.train_dataset, "go_on", lambda: None)()
        return restored

    def add_hook(self, hook: Hook) -> None:
        """Add a hook after the others. Raises TypeError unless it is a Hook, ValueError if it was added before."""
        self._pieces.hooks.add(hook)

    def stop(self, reason: str) -> None:
        """End training after this step, on all ranks. On one rank is enough."""
        self.stopped_by = self.stopped_by or reason

    @property
    def rank(self) -> int:
        return self._pieces.ranks.rank

    @property
    def world(self) -> int:
        return self._pieces.ranks.world

    @property
    def max_steps(self) -> int | None:
        """The step after which training ends; None where epochs or the data decide."""
        return self._max_steps
