"""Training loops."""

from recis_core.framework.evaluate import Evaluation, evaluate
from recis_core.framework.log_window import Logged
from recis_core.framework.train_loop import TrainLoop

__all__ = ["Evaluation", "Logged", "TrainLoop", "evaluate"]
