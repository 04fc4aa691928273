"""One feature: a name and the ops that make it from input fields."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from recis_core.backends.errors import NotFitted
from recis_core.features.definition import feature_digest
from recis_core.features.op import FittedOp, Op
from recis_core.features.select_field import SelectField, SelectFields
from recis_core.plain_torch import in_plain_torch

NAMED = (TypeError, ValueError, KeyError, NotFitted)


class Feature:
    """A named column of a model's input, made by ops in order; the first one selects input fields.

        Feature("item").add_op(SelectField("item_id")).add_op(Mod(10_000))

    Raises:
      TypeError: name is no text. ValueError: name is empty.
    """

    def __init__(self, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"a feature's name must be text; got {name!r}.")
        if not name:
            raise ValueError("a feature's name must not be empty.")
        self.name = name
        self._ops: list[Op] = []
        self._compiled = False

    def add_op(self, op: Op) -> Feature:
        """Add a step; returns self.

        Raises:
          TypeError: op is none. ValueError: the first op selects no field, a later one does; or an engine has the feature.
        """
        if not isinstance(op, Op):
            raise TypeError(f"feature {self.name!r}: an op is wanted, such as SelectField('x'); got {op!r}.")
        if self._compiled:
            raise ValueError(
                f"feature {self.name!r} belongs to an engine, and its ops are fixed; got {op.kind}. Make another Feature."
            )
        selects = isinstance(op, SelectField | SelectFields)
        if selects != (not self._ops):
            first = "the first op must be SelectField or SelectFields" if not self._ops else "only the first op selects"
            raise ValueError(f"feature {self.name!r}: {first}; got {op!r}.")
        self._ops.append(op)
        return self

    @property
    def ops(self) -> tuple[Op, ...]:
        return tuple(self._ops)

    @property
    def compiled(self) -> bool:
        """Whether an engine has it."""
        return self._compiled

    def get_hash(self) -> str:
        """A hash of the name and of the ops with their arguments and fitted numbers."""
        return feature_digest(self.name, self._ops)

    @in_plain_torch
    def forward(self, data: Any) -> Any:
        """The feature of one batch; the same as in an engine. Errors name the feature and the op."""
        self._require_ops()
        for op in self._ops:
            with naming([self.name], op):
                data = op(data)
        return data

    __call__ = forward

    def _require_ops(self) -> None:
        if not self._ops:
            raise ValueError(f"feature {self.name!r} has no ops; add SelectField or SelectFields first.")

    def _compile(self) -> None:
        """An engine takes the feature."""
        self._compiled = True

    @property
    def fitted_ops(self) -> list[FittedOp]:
        """The ops that `FeatureEngine.fit` fits, in order."""
        return [op for op in self._ops if isinstance(op, FittedOp) and op.needs_fit]

    def __repr__(self) -> str:
        return f"Feature({self.name!r}, {', '.join(map(repr, self._ops))})"


@contextmanager
def naming(features: list[str], op: Op) -> Iterator[None]:
    """Errors inside name features and op."""
    try:
        yield
    except NAMED as error:
        raise_naming(error, features, op)


def raise_naming(error: Exception, features: list[str], op: Op) -> NoReturn:
    """The error with the names of features and op; a subclass, which may take other arguments, gets them as a note."""
    names = ", ".join(map(repr, features))
    if type(error) in NAMED:
        raise type(error)(f"feature {names}, {op.kind}: {error.args[0] if error.args else error}") from error
    error.add_note(f"in feature {names}, {op.kind}")
    raise error
