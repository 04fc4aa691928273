"""Training loops.

Names load when they are asked for, so that a command can listen for signals before torch is imported.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recis_core.framework.ending import Ending, Stopped
    from recis_core.framework.evaluation import Evaluation, evaluate
    from recis_core.framework.functional import train, train_and_evaluate
    from recis_core.framework.listening import ending_on_signals
    from recis_core.framework.log_window import Logged
    from recis_core.framework.metric_evaluation import evaluate_metrics
    from recis_core.framework.train_loop import TrainLoop
    from recis_core.framework.trainer import Trainer
    from recis_core.framework.training_arguments import TrainingArguments

_HOMES = {
    "Ending": "ending",
    "Evaluation": "evaluation",
    "Logged": "log_window",
    "Stopped": "ending",
    "TrainLoop": "train_loop",
    "Trainer": "trainer",
    "TrainingArguments": "training_arguments",
    "ending_on_signals": "listening",
    "evaluate": "evaluation",
    "evaluate_metrics": "metric_evaluation",
    "train": "functional",
    "train_and_evaluate": "functional",
}
__all__ = [
    "Ending",
    "Evaluation",
    "Logged",
    "Stopped",
    "TrainLoop",
    "Trainer",
    "TrainingArguments",
    "ending_on_signals",
    "evaluate",
    "evaluate_metrics",
    "train",
    "train_and_evaluate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"recis_core.framework has no {name!r}; it has {', '.join(__all__)}.")
    return getattr(import_module(f"recis_core.framework.{_HOMES[name]}"), name)
