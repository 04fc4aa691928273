"""Which unknown ids a table admits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from recis_core.options.hook import Kind, Parameter, count, read_hook, write_hook

MAX_THRESHOLD = (1 << 16) - 1  # counters have 16 bits


@dataclass(frozen=True)
class AdmitHook:
    """Which ids get a row. Without a hook every id gets one at its first lookup in training.

    AdmitHook("ReadOnly")   no id gets a row. Also for single lookups, `table(ids, AdmitHook("ReadOnly"))`.

    AdmitHook("Frequency", {"threshold": 5})   an id gets a row at its 5th occurrence in training; repetitions in a batch
      count.
      counter: "exact" counts by id, for `capacity` ids (1,048,576) of a physical table, 40 bytes each. When it is full,
        the count of the id seen longest ago is dropped, and `counter_overflow` grows.
        "bloom" counts all ids in `bytes` (16 MiB) of memory. It never admits an id late; an id that collides with others
        may be admitted early. Every `halve_every` steps (0: never) its counts are halved. Otherwise it keeps the counts of
        admitted ids.

    AdmitHook("Probability", {"p": 0.1})   an id gets a row with this probability, drawn anew in each step that looks it
      up. The draw depends on (seed, table, id, step) alone: runs repeat, and ranks agree.

    An id that is not admitted has the vector that EmbeddingOption.unknown names and no gradient; it counts as `rejected`.
    An admitted id stays until it is evicted, and must then be admitted again. Only lookups of training count and admit;
    evaluation and forwards recomputed by activation checkpointing only find. Ids that are inserted or loaded are always
    admitted. With several ranks a row's owner admits, by the occurrences on all ranks.

    Raises:
      TypeError, ValueError: the name or a parameter is wrong.
    """

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)

    KINDS: ClassVar[dict[str, Kind]] = {
        "ReadOnly": Kind("readonly"),
        "Frequency": Kind(
            "frequency",
            (
                Parameter(
                    "threshold", int, f"1 to {MAX_THRESHOLD:,} occurrences", lambda value: 1 <= value <= MAX_THRESHOLD
                ),
                Parameter("counter", str, "exact or bloom", lambda value: value in ("exact", "bloom"), "exact"),
                count("capacity", 1 << 20),
                count("bytes", 16 << 20, low=64),
                count("halve_every", 0, low=0),
            ),
        ),
        "Probability": Kind("probability", (Parameter("p", float, "in (0, 1]", lambda value: 0 < value <= 1),)),
    }

    def __post_init__(self) -> None:
        if self.name not in self.KINDS:
            raise ValueError(f"AdmitHook knows {', '.join(self.KINDS)}; got {self.name!r}.")
        object.__setattr__(self, "params", self.KINDS[self.name].checked(self.name, self.params))

    @property
    def read_only(self) -> bool:
        return self.name == "ReadOnly"

    @classmethod
    def parse(cls, text: str) -> AdmitHook:
        """From "readonly", "frequency(5)", "frequency(5,counter=bloom,bytes=1e8)" or "probability(.1)"."""
        return cls(*read_hook(text, cls.KINDS, "admit_hook"))

    @classmethod
    def of(cls, given: AdmitHook | str | None) -> AdmitHook | None:
        """An AdmitHook, that of a text, or None."""
        return given if given is None or isinstance(given, cls) else cls.parse(str(given))

    def __str__(self) -> str:
        return write_hook(self.KINDS[self.name], self.params)

    def __hash__(self) -> int:
        return hash((self.name, *sorted(self.params.items())))
