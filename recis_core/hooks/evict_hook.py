"""Eviction of rows by the tables' filters."""

from __future__ import annotations

from collections import Counter

from recis_core.hooks.arguments import check_count
from recis_core.hooks.hook import Hook
from recis_core.hooks.run import Run, StepResult
from recis_core.nn import filter_out_sparse_param
from recis_core.nn.hash_table import evict_tables


class EvictHook(Hook):
    """Lets all tables evict the rows that their FilterHook chooses, after every `every_steps` steps.

    evicted: rows so far, by table; of this rank and process.

    Raises:
      TypeError, ValueError: every_steps is no count; or, before training, no table of the model has a filter_hook.
    """

    def __init__(self, every_steps: int) -> None:
        check_count("every_steps", every_steps)
        self.every_steps = every_steps
        self.evicted: Counter[str] = Counter()

    def before_train(self, run: Run) -> None:
        tables = filter_out_sparse_param(run.model)
        if all(table.option.filter_hook is None for table in tables.values()):
            raise ValueError(
                f"EvictHook evicts by tables' filters; of the model's tables ({', '.join(tables) or 'none'}) no one has a "
                'filter. Give EmbeddingOption(filter_hook=FilterHook("LRU", {"max_rows": …})), or leave the hook out.'
            )

    def after_step(self, run: Run, result: StepResult) -> None:
        if run.step % self.every_steps == 0:
            self.evicted.update(evict_tables(filter_out_sparse_param(run.model)))
