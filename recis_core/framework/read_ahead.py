"""Batches of a run that a Prefetcher reads ahead; the run's position in its data stays that of the batches it was given.

data ─▶ (batch, position after it) ─▶ Prefetcher's thread: rows fetched ─▶ batch ─▶ step ─▶ checkpoint: that position
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from typing import Any

from torch import nn

from recis_core.framework.counted_batches import CountedBatches
from recis_core.nn import EmbeddingEngine, Prefetcher


def follows_steps(data: Any) -> bool:
    """Whether a data set's state_dict() tells of the steps that were done, however far it was read; it then says so."""
    return bool(getattr(data, "follows_steps", False))


class ReadAhead:
    """The data of a run, as a reader with a position.

    Args:
      reader: keeps a position by state_dict and load_state_dict; None: there is no data. depth: batches that are read ahead;
        0 reads none. threads: see Prefetcher.

    Raises:
      TypeError, ValueError: the model does not say what its tables look up, or the data gives each batch once.
    """

    def __init__(self, model: nn.Module, reader: Any, depth: int, threads: int | None) -> None:
        self._reader, self._depth, self._threads = reader, depth, threads
        self._position: Any = None
        if depth:
            self._engine, self._features = engine_of(model), features_of(model)
        if depth and isinstance(reader, CountedBatches) and reader.one_pass:
            raise ValueError(
                f"prefetch={depth} reads ahead of training, and an iterator gives what was read ahead no second time. Give "
                "the Trainer a train_dataset that can be iterated over again, or prefetch=0."
            )

    def batches(self, data: Iterable[Any]) -> Iterator[Any]:
        """One pass over data: the reader, or a window of it."""
        return self._ahead(data) if self._depth else iter(data)

    def _ahead(self, data: Iterable[Any]) -> Iterator[Any]:
        pairs = Prefetcher(
            self._engine, self._with_positions(data), self._depth, threads=self._threads,
            features=lambda pair: self._features(pair[0]),
        )  # fmt: skip
        given: Any = iter(pairs)
        with closing(given):
            for batch, position in given:
                self._position = position
                yield batch
        self._position = None

    def _with_positions(self, data: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """On the thread that reads."""
        for batch in data:
            yield batch, None if follows_steps(self._reader) else self._reader.state_dict()

    def go_on(self, data: Any) -> None:
        """Let the next pass over data begin after the batches that were given."""
        if self._position is not None:
            self._reader.load_state_dict(self._position)
        else:
            getattr(data, "go_on", lambda: None)()

    def state_dict(self) -> Any:
        return self._reader.state_dict() if self._position is None else self._position

    def load_state_dict(self, state: Any) -> None:
        self._reader.load_state_dict(state)
        self._position = None


def engine_of(model: nn.Module) -> EmbeddingEngine:
    """Raises ValueError unless the model has one EmbeddingEngine."""
    engines = [module for module in model.modules() if isinstance(module, EmbeddingEngine)]
    if len(engines) != 1:
        raise ValueError(f"prefetch needs a model with one EmbeddingEngine; {type(model).__name__} has {len(engines)}.")
    return engines[0]


def features_of(model: nn.Module) -> Callable[[Any], Mapping[str, Any]]:
    """Raises TypeError unless the model has sparse_features(batch)."""
    features = getattr(model, "sparse_features", None)
    if not callable(features):
        raise TypeError(
            "prefetch needs a model whose sparse_features(batch) gives what its EmbeddingEngine looks up, as those of "
            f"recis_core.models do; {type(model).__name__} has none."
        )
    return features
