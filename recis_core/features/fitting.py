"""Fitting: passes over data, in each of which the first unfitted op of every feature sees the batches.

    price: SelectField, Normalize(zscore), Quantile     two passes: Normalize, then Quantile of what Normalize gives
    age:   SelectField, Quantile                        one, beside the first

Numbers found in a pass are kept aside, in copies of the ops, until all are found.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from recis_core.features.feature import Feature, naming
from recis_core.features.fused import calls_of, run_calls
from recis_core.features.op import FittedOp, Op, Sketch

LOG = logging.getLogger(__name__)
Numbers = dict[str, dict[int, dict[str, Any]]]  # by feature and by the op's place


def passes_of(features: Sequence[Feature]) -> int:
    """Passes over the data that fitting takes: the most fitted ops that stand one behind another."""
    return max((len(feature.fitted_ops) for feature in features), default=0)


def fitted_numbers(features: Sequence[Feature], dataset: Iterable[Mapping[str, Any]]) -> Numbers:
    """The numbers of all fitted ops. The ops stay as they are.

    Raises:
      ValueError: the data can be read once and more passes are needed; there were no batches; or no values to fit to.
    """
    passes = passes_of(features)
    _require_repeatable(features, dataset, passes)
    steps: dict[str, list[Op]] = {feature.name: _unfitted(feature.ops) for feature in features if feature.fitted_ops}
    found: Numbers = {name: {} for name in steps}
    for n in range(passes):
        LOG.info("fit: pass %d of %d over the data", n + 1, passes)
        places = {name: at for name, ops in steps.items() if (at := _first_unfitted(ops)) is not None}
        for name, numbers in _one_pass(steps, places, dataset).items():
            found[name][places[name]] = numbers
            fitted_op(steps[name], places[name]).set_fitted(numbers)
    return found


def _unfitted(ops: Sequence[Op]) -> list[Op]:
    """The ops, with copies without numbers in the place of those that are fitted."""
    copies = []
    for op in ops:
        if isinstance(op, FittedOp) and op.needs_fit:
            op = copy.copy(op)
            op.set_fitted(None)
        copies.append(op)
    return copies


def _first_unfitted(ops: Sequence[Op]) -> int | None:
    waiting = (n for n, op in enumerate(ops) if isinstance(op, FittedOp) and op.needs_fit and op.fitted is None)
    return next(waiting, None)


def fitted_op(ops: Sequence[Op], place: int) -> FittedOp:
    op = ops[place]
    if not isinstance(op, FittedOp):
        raise TypeError(f"op {place + 1} has no numbers to fit; it is {op!r}.")
    return op


def _one_pass(
    steps: Mapping[str, Sequence[Op]], places: Mapping[str, int], dataset: Iterable[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    before = {name: steps[name][: places[name]] for name in places}
    ops = {name: fitted_op(steps[name], places[name]) for name in places}
    sketches = {name: op.sketch() for name, op in ops.items()}
    calls, batches = calls_of(before), 0
    for batch in dataset:
        batches += 1
        for name, value in run_calls(calls, list(before), batch).items():
            with naming([name], ops[name]):
                ops[name].check_input(value)
                sketches[name].add(value)
    if not batches:
        raise ValueError(
            "there was no batch to fit to. An iterator that has ended gives none: pass the data set itself."
        )
    return {name: _numbers_of(name, ops[name], sketch) for name, sketch in sketches.items()}


def _numbers_of(name: str, op: FittedOp, sketch: Sketch) -> dict[str, Any]:
    with naming([name], op):
        return op.read_fitted(sketch.numbers())


def _require_repeatable(features: Sequence[Feature], dataset: Any, passes: int) -> None:
    if passes > 1 and isinstance(dataset, Iterator):
        chain = next(feature for feature in features if len(feature.fitted_ops) == passes)
        kinds = ", ".join(op.kind for op in chain.fitted_ops)
        raise ValueError(
            f"feature {chain.name!r} has {passes} fitted ops, one behind another ({kinds}), so fitting takes {passes} passes, "
            f"and an iterator gives one. Pass what can be iterated again, such as the data set or a list of batches."
        )


@contextmanager
def position_kept(dataset: Any) -> Iterator[None]:
    """A data set that says its position has it back afterwards, so that training starts where it would have."""
    if not callable(getattr(dataset, "state_dict", None)) or not callable(getattr(dataset, "load_state_dict", None)):
        yield
        return
    position = dataset.state_dict()
    try:
        yield
    finally:
        dataset.load_state_dict(position)
