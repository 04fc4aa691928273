"""A click log with several labels whose truths are related.

Sizes: n samples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from recis_core.io.synthetic import draws
from recis_core.io.synthetic.clicks import CALIBRATION, SyntheticClicks
from recis_core.io.synthetic.log import check_range
from recis_core.io.synthetic.preset import Preset
from recis_core.io.synthetic.truth import FieldTruth, logits, sigmoid, solve_bias
from recis_core.ragged import RaggedTensor

APART = 0x5851F42D4C957F2D  # between the seeds of tasks' truths


class SyntheticTasks(SyntheticClicks):
    """The ids of SyntheticClicks, with a label a task.

    The logit of task t is √correlation · z + √(1 − correlation) · z_t, z and z_t each a truth as that of SyntheticClicks, so
    that the logits of two tasks have this correlation. Labels are drawn independently. As Ma et al. 2018,
    doi:10.1145/3219819.3220007, §3.2, make tasks of a given relation.

    Args:
      preset, seed: as SyntheticClicks. tasks: names of the labels. correlation: 0 to 1.

    Raises:
      ValueError: correlation is out of range, or tasks are none, not distinct, or named as fields.
    """

    def __init__(
        self,
        preset: str | Preset = "tiny",
        seed: int = 0,
        *,
        tasks: Sequence[str] = ("click", "buy"),
        correlation: float = 0.5,
    ) -> None:
        super().__init__(preset, seed)
        taken = {field.name for field in self.preset.fields}
        if not tasks or len(set(tasks)) < len(tasks) or set(tasks) & taken or not 0 <= correlation <= 1:
            raise ValueError(
                f"tasks must be distinct names, none of them a field's, and correlation 0 to 1; got {tasks!r}, {correlation}."
            )
        self.tasks, self.correlation = tuple(tasks), correlation
        self.name = f"{self.preset.name}, tasks {', '.join(tasks)}, correlation {correlation:g}"
        self._of_task = [
            [FieldTruth(self.preset, f, seed ^ (APART * (t + 1) & (1 << 63) - 1)) for f in self._numbers]
            for t in range(len(tasks))
        ]
        spread = np.arange(CALIBRATION) * max(1, self.preset.rows // CALIBRATION)
        z = self._task_logits([self._draw(number, spread) for number in self._numbers])
        self.biases = [solve_bias(each, self.preset.click_rate) for each in z]

    def batch(self, start: int, n: int) -> dict[str, Tensor | RaggedTensor]:
        """Samples start .. start + n.

        Returns:
          Of each task "<task>": float32 [n], 0 or 1, and "<task>:p": float64 [n], the true probability of 1.
          Each field by name, as SyntheticClicks.
        """
        check_range(start, n)
        samples = np.arange(start, start + n, dtype=np.int64)
        drawn = [self._draw(number, samples) for number in self._numbers]
        batch: dict[str, Tensor | RaggedTensor] = {}
        for t, (task, z) in enumerate(zip(self.tasks, self._task_logits(drawn), strict=True)):
            p = sigmoid(z + self.biases[t])
            label = draws.uniform(self.seed, samples, draws.LABEL, t) < p
            batch[task], batch[f"{task}:p"] = torch.from_numpy(label.astype(np.float32)), torch.from_numpy(p)
        fields = enumerate(self.preset.fields)
        return batch | {field.name: self._ragged(number, field, *drawn[number]) for number, field in fields}

    def _task_logits(self, drawn: list[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
        """float64 [n] of each task, without biases."""
        shared, own = self.correlation**0.5, (1 - self.correlation) ** 0.5
        z = shared * self._logits(drawn)
        of_tasks = ([t.pooled(*pair) for t, pair in zip(truths, drawn, strict=True)] for truths in self._of_task)
        return [z + own * logits(pooled) for pooled in of_tasks]
