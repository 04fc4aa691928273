"""Logs with a planted truth, so that quality can be judged without label noise."""

from recis_core.io.synthetic.bayes import bayes_auc, bayes_logloss, expected_auc, expected_logloss
from recis_core.io.synthetic.choices import SyntheticChoices
from recis_core.io.synthetic.clicks import SyntheticClicks
from recis_core.io.synthetic.dataset import SyntheticDataset
from recis_core.io.synthetic.histories import SyntheticHistories
from recis_core.io.synthetic.preset import PRESETS, Field, Preset
from recis_core.io.synthetic.tasks import SyntheticTasks
from recis_core.io.synthetic.write import write_orc, write_parquet

__all__ = [
    "PRESETS",
    "Field",
    "Preset",
    "SyntheticChoices",
    "SyntheticClicks",
    "SyntheticDataset",
    "SyntheticHistories",
    "SyntheticTasks",
    "bayes_auc",
    "bayes_logloss",
    "expected_auc",
    "expected_logloss",
    "write_orc",
    "write_parquet",
]
