"""Which rows a table evicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from recis_core.backends.records import Marks
from recis_core.options.hook import Kind, Parameter, count, positive, read_hook, write_hook

Choose = Callable[[Marks, Callable[[Tensor], Tensor]], Tensor]


@dataclass(frozen=True)
class FilterHook:
    """Which rows `evict()` of a table erases. Steps are optimizer steps; a lookup uses a row.

    FilterHook("GlobalStepFilter", {"filter_step": n})   after finished step s, rows last used at step `last` where
      s − last >= n.
    FilterHook("LRU", {"max_rows": n})   all but the n rows that were used last.
    FilterHook("LFU", {"max_rows": n, "decay": 0.97})   all but the n rows used in most forwards, where older forwards
      count less: each evict() first sets a row's count to decay · count + forwards that used it since. The counts take 24
      bytes a row beside the table.
    FilterHook("TTL", {"seconds": t})   rows last used t seconds ago by the wall clock; up to t/64 later, never earlier.
      Time between a save and its resumption counts.
    FilterHook("Norm", {"below": x})   rows whose weights have an L2 norm below x, also rows that were never updated: if
      such an id returns, its row has the same initial values.
    FilterHook(fn)   rows for which fn(marks, weights), bool [n], is True. marks: backends.records.Marks of one named
      table; weights(at) gives float32 [k, D] of the rows at positions int64 [k].

    max_rows counts a named table's rows on all ranks. If ranks share its rows, each keeps an equal share, rounded up.
    Rows with pending gradients, or whose forward may still have a backward, stay. An evicted id that returns starts
    from its initial value with initial slots. Ties are decided by last use, then by id.

    Raises:
      TypeError, ValueError: the name or a parameter is wrong.
    """

    name: str | Choose
    params: Mapping[str, Any] = field(default_factory=dict)

    KINDS: ClassVar[dict[str, Kind]] = {
        "GlobalStepFilter": Kind("step", (count("filter_step"),)),
        "LRU": Kind("lru", (count("max_rows"),)),
        "LFU": Kind(
            "lfu",
            (count("max_rows"), Parameter("decay", float, "in [0, 1]", lambda value: 0 <= value <= 1, 0.97)),
        ),
        "TTL": Kind("ttl", (Parameter("seconds", float, "positive", positive),)),
        "Norm": Kind("norm", (Parameter("below", float, "positive", positive),)),
    }

    def __post_init__(self) -> None:
        if callable(self.name):
            if self.params:
                raise ValueError(f"a function takes no params; got {dict(self.params)!r}.")
            return
        if self.name not in self.KINDS:
            raise ValueError(f"FilterHook knows {', '.join(self.KINDS)}, or a function; got {self.name!r}.")
        object.__setattr__(self, "params", self.KINDS[self.name].checked(self.name, self.params))

    @property
    def cause(self) -> str:
        """The hook's name in stats: step, lru, lfu, ttl, norm or custom."""
        return "custom" if callable(self.name) else self.KINDS[self.name].text

    @classmethod
    def parse(cls, text: str) -> FilterHook:
        """From "step(1000)", "lru(1e6)", "lfu(1e6,decay=.9)", "ttl(3600)" or "norm(1e-4)"."""
        return cls(*read_hook(text, cls.KINDS, "filter_hook"))

    @classmethod
    def of(cls, given: FilterHook | str | None) -> FilterHook | None:
        """A FilterHook, that of a text, or None."""
        return given if given is None or isinstance(given, cls) else cls.parse(str(given))

    def __str__(self) -> str:
        if callable(self.name):
            return f"custom:{getattr(self.name, '__qualname__', type(self.name).__qualname__)}"
        return write_hook(self.KINDS[self.name], self.params)

    def __hash__(self) -> int:
        return hash((self.name, *sorted(self.params.items())))
