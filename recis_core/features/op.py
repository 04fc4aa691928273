"""The base of ops."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

from recis_core.backends.errors import NotFitted
from recis_core.features.arguments import plain


@dataclass(frozen=True)
class Origin:
    """Where arguments come from. folder: from where relative paths lead. functions: of Custom, by (name, version)."""

    folder: Path = Path()
    functions: Mapping[tuple[str, int], Callable[[Any], Any]] = field(default_factory=dict)


HERE = Origin()


@dataclass(frozen=True, eq=False, repr=False)
class Op(ABC):
    """One step of a feature: from a column, or a list of columns, to another. Immutable; never changes its input.

    Fields of the dataclass are the arguments. A subclass checks them in __post_init__, which takes them as JSON and
    YAML give them too.
    """

    takes: ClassVar[str] = "any"  # the kind of its one input, a key of value.MEANING

    @property
    def kind(self) -> str:
        return type(self).__name__

    def kinds(self, inputs: int) -> list[str]:
        """The kinds of its inputs, of which it gets so many."""
        return [self.takes] * inputs

    def arguments(self) -> dict[str, Any]:
        """All arguments by name, as JSON holds them; two ops of one class with equal arguments are equal."""
        return {f.name: plain(getattr(self, f.name)) for f in sorted(fields(self), key=lambda f: f.kw_only is True)}

    def written(self, folder: Path) -> dict[str, Any]:
        """The arguments that a file in this folder needs: those that differ from the defaults."""
        defaults = {f.name: plain(f.default) for f in fields(self)}
        return {name: value for name, value in self.arguments().items() if value != defaults[name]}

    @classmethod
    def of(cls, arguments: Mapping[str, Any], origin: Origin = HERE) -> Op:
        """The op of these arguments. Raises TypeError or ValueError that names the argument."""
        if not isinstance(arguments, Mapping):
            raise TypeError(f"arguments must be a mapping by name; got {arguments!r}.")
        known = [f.name for f in fields(cls)]
        for name in arguments:
            if name not in known:
                raise ValueError(f"there is no argument {name!r}; arguments are {', '.join(known) or 'none'}.")
        for f in fields(cls):
            if f.default is MISSING and f.name not in arguments:
                raise ValueError(f"the argument {f.name} is missing.")
        return cls(**cls._completed(arguments, origin))

    @classmethod
    def _completed(cls, arguments: Mapping[str, Any], origin: Origin) -> dict[str, Any]:
        """The arguments with what their origin adds."""
        return dict(arguments)

    @abstractmethod
    def check(self, value: Any) -> None:
        """Raises TypeError or ValueError unless `run` takes this input."""

    @classmethod
    @abstractmethod
    def run(cls, ops: Sequence[Any], values: Sequence[Any]) -> list[Any]:
        """Results of many ops of this class, each with its checked input, in one call."""

    def forward(self, value: Any) -> Any:
        """The result for one input, the same as in an engine."""
        self.check(value)
        return type(self).run([self], [value])[0]

    __call__ = forward

    def _kept(self, key: Any, make: Callable[[], Any]) -> Any:
        """A value made once from the arguments, such as a tensor on a device; not copied or pickled with the op."""
        kept = self.__dict__.setdefault("_made", {})
        if key not in kept:
            kept[key] = make()
        return kept[key]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_made"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.written(Path()).items())
        return f"{self.kind}({given if len(given) < 200 else given[:200] + ' …'})"

    def _set(self, **arguments: Any) -> None:
        """Arguments in their checked form, from __post_init__."""
        self.__dict__.update(arguments)


class Sketch(ABC):
    """A column's summary, from which numbers are fitted. Any split of the values into batches gives the same."""

    @abstractmethod
    def add(self, value: Any) -> None:
        """Take a batch of the op's input."""

    @abstractmethod
    def merge(self, other: Any) -> None:
        """Take what another sketch has seen."""

    @abstractmethod
    def numbers(self) -> dict[str, Any]:
        """The fitted numbers, as JSON holds them. Raises ValueError where nothing can be fitted to what was seen."""


@dataclass(frozen=True, eq=False, repr=False)
class FittedOp(Op):
    """An op with numbers that `FeatureEngine.fit` finds. fitted: those numbers, or None before."""

    fitted: dict[str, Any] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        self._set(fitted=None if self.fitted is None else self.read_fitted(self.fitted))

    @property
    def needs_fit(self) -> bool:
        """Whether it has numbers to fit at all."""
        return True

    @abstractmethod
    def sketch(self) -> Sketch:
        """An empty summary of its input."""

    @abstractmethod
    def read_fitted(self, numbers: Any) -> dict[str, Any]:
        """Checked numbers. Raises TypeError or ValueError."""

    @abstractmethod
    def check_input(self, value: Any) -> None:
        """Raises TypeError or ValueError unless `run` and the sketch take this input."""

    def check(self, value: Any) -> None:
        if self.needs_fit and self.fitted is None:
            raise NotFitted(f"{self.kind} has no fitted numbers yet. Fit them first: engine.fit(dataset).")
        self.check_input(value)

    def set_fitted(self, numbers: dict[str, Any] | None) -> None:
        """Replace the fitted numbers, which are checked already."""
        self.__dict__.update(_made={}, fitted=numbers)


def positional(op_class: type[Op]) -> list[str]:
    """Names of the arguments that may stand without a name, in order."""
    return [f.name for f in fields(op_class) if not f.kw_only]
