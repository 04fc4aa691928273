"""Filters of all tables of the process, every so many steps."""

from __future__ import annotations

from typing import Any

from recis_core.compat.recis.hooks.hook import Hook
from recis_core.compat.recis.nn.modules.hashtable_hook_impl import HashtableHookFactory


class HashTableFilterHook(Hook):
    """`after_step(_, step)` counts a step of all filters, and filters where filter_interval steps have passed.

    The first step that is not 0 is where the counting begins.
    """

    def __init__(self, filter_interval: int | None = 100) -> None:
        self.filter_interval, self.last_filter_step = filter_interval, 0
        self.ht_filters = HashtableHookFactory().get_filters()

    def reset_filter_interval(self, interval: int | None = 100) -> None:
        self.filter_interval = interval

    def after_step(self, _: Any, gstep: Any, **kwargs: Any) -> None:
        """gstep: an int or a tensor of one. Collective if a filter of the user's own deletes rows of several ranks."""
        step = int(gstep)
        self.last_filter_step = self.last_filter_step or step
        due = self.filter_interval is not None and step - self.last_filter_step >= self.filter_interval
        for filters in self.ht_filters.values():
            for one in filters.values():
                one.update_step()
                if due:
                    one.do_filter()
        if due:
            self.last_filter_step = step
