"""TrainPipelineSparseDist: one call a step, with the rows of coming batches fetched while the model computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from recis_core.backends.errors import RecisError
from recis_core.compat.torchrec.distributed.train_pipeline.batch_features import keyed_jagged_of
from recis_core.compat.torchrec.modules.collection import TableCollection
from recis_core.nn import Prefetcher


class TrainPipelineSparseDist:
    """Steps a model over batches of an iterator.

        pipeline = TrainPipelineSparseDist(model, optimizer, device)
        output = pipeline.progress(iterator)          # one batch: forward, backward, step

    model(batch) gives (losses, output); the sum of losses is trained. A collection whose tables have a cache
    (table_options) gets the rows of coming batches by a Prefetcher, which reads as many batches ahead as the cache's
    `prefetch` says; with several of them the first. Without a cache, or where ranks share the tables, one batch is read
    ahead. Training gives the same bits in each case.

    Args:
      model: a module; DistributedModelParallel or another.
      optimizer: of all that has none in backward.
      device: to which batches are sent, by their `to`.
      execute_all_batches: must be True: the iterator's last batches are trained, too.
      custom_model_fwd: is called instead of model.
      features: ours. From a batch to the KeyedJaggedTensor of the collection; None finds it among the batch's fields.

    As torchrec.distributed.train_pipeline.TrainPipelineSparseDist.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        device: torch.device | str,
        execute_all_batches: bool = True,
        *,
        custom_model_fwd: Callable[[Any], tuple[torch.Tensor, Any]] | None = None,
        features: Callable[[Any], Any] | None = None,
    ) -> None:
        if not execute_all_batches:
            raise ValueError("execute_all_batches must be True: batches that were read are trained. Cut the iterator.")
        self._model, self._optimizer, self._device = model, optimizer, torch.device(device)
        self._forward, self._features = custom_model_fwd or model, features
        self._reader: Any = None
        self._batches: Iterator[Any] = iter(())

    def progress(self, dataloader_iter: Iterator[Any]) -> Any:
        """Train, or in eval run, one batch; returns the model's output.

        Another iterator than at the last call begins a new pass: batches that were read ahead are dropped.

        Raises:
          StopIteration: the iterator has ended.
        """
        if dataloader_iter is not self._reader:
            self.close()
            self._reader, self._batches = dataloader_iter, self._ahead(dataloader_iter)
        batch = next(self._batches)
        if self._model.training:
            self._optimizer.zero_grad()
        losses, output = self._forward(batch)
        if self._model.training:
            torch.sum(losses, dim=0).backward()
            self._optimizer.step()
        return output

    def close(self) -> None:
        """Drop batches that were read ahead, and end the thread that reads them."""
        end = getattr(self._batches, "close", None)
        if end is not None:
            end()
        self._reader, self._batches = None, iter(())

    def _ahead(self, reader: Iterator[Any]) -> Iterator[Any]:
        sent = (_sent(batch, self._device) for batch in reader)
        cached = [each for each in self._model.modules() if isinstance(each, TableCollection) and _has_cache(each)]
        if not cached or cached[0].engine.exchange is not None:
            return _one_ahead(sent)
        collection = cached[0]
        features = self._features or (lambda batch: keyed_jagged_of(batch, collection.features()))
        return iter(Prefetcher(collection.engine, sent, features=lambda batch: collection.inputs(features(batch))))


class TrainPipelineBase(TrainPipelineSparseDist):
    """The same. As torchrec.distributed.train_pipeline.TrainPipelineBase."""


def _has_cache(collection: TableCollection) -> bool:
    tables = collection.engine.sparse_parameters().values()
    return any(table.physical.storage.tiers is not None for table in tables)


def _sent(batch: Any, device: torch.device) -> Any:
    if not callable(getattr(batch, "to", None)):
        raise RecisError(
            f"a batch must have to(device, non_blocking=…), to be sent to {device}; got {type(batch).__name__}. "
            "recis_core.compat.torchrec.datasets.utils.Batch has it."
        )
    return batch.to(device, non_blocking=True)


def _one_ahead(batches: Iterator[Any]) -> Iterator[Any]:
    """Asks for the next batch before the last one is trained, so that its copy runs meanwhile."""
    before: list[Any] = []
    for batch in batches:
        if before:
            yield before.pop()
        before.append(batch)
    yield from before
