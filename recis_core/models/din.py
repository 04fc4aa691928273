"""DIN: attention of a target item over a user's history of any length.

Sizes: B rows of a batch, N events of all histories, F sparse fields, H histories, D dim, X dense columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from recis_core.exchange import Precision
from recis_core.models.activations import activation_of
from recis_core.models.inputs import dense_of, taken
from recis_core.models.mlp import mlp
from recis_core.models.shardings import Shardings, check_names, sharding_of
from recis_core.nn import AdmitHook, CacheConfig, EmbeddingEngine, EmbeddingOption, FilterHook
from recis_core.ragged import RaggedTensor, segment_sum

ITEM_HISTORY = MappingProxyType({"history": "item"})


class TargetAttention(nn.Module):
    """Σ_j w(e_j, t) · e_j over the events e_j of a row's history, with t the row's target.

        history   e0 e1 | | e2 e3 e4      three rows, the second empty: zeros
        target    t0      t1  t2          w(e0, t0), w(e1, t0), w(e2, t2), …

    w is an MLP of [e, t, e − t, e ⊙ t], without a softmax, so that a history of more alike events weighs more. All work is
    on the N events that are there, none on padding. Zhou et al. 2018, arXiv:1706.06978, §4.3; e ⊙ t stands for the
    paper's outer product, as in the authors' code.
    """

    def __init__(self, dim: int, hidden: Sequence[int], activation: str) -> None:
        super().__init__()
        self.weigh = mlp([4 * dim, *hidden, 1], activation=activation_of(activation))

    def forward(self, target: Tensor, history: RaggedTensor) -> Tensor:
        """(target [B, D], history of B rows of vectors [N, D]) -> [B, D]."""
        events, each = history.values(), torch.arange(len(history.values()), device=target.device)
        rows = torch.repeat_interleave(
            torch.arange(len(target), device=target.device), history.lengths(), output_size=len(events)
        )
        # A segment sum of one target each: its gradient is added up in a fixed order on every device.
        targets = segment_sum(target, None, rows, each, len(events))
        weights = self.weigh(torch.cat([events, targets, events - targets, events * targets], dim=1)).sum(1)
        return segment_sum(events, weights, each, rows, len(target))


class DIN(nn.Module):
    """Deep interest network: fields, and histories as their target sees them, into an MLP.

    logit = MLP([v_1 .. v_F, attention_1 .. attention_H, dense])

    Args:
      fields: names of sparse features; each has a table of `embedding_dim` columns, whose ids in a bag are summed.
      embedding_dim: D.
      histories: {name of a ragged feature of one level: the field, one id a row, that is its target}. Both share the
        target's table. Weights of a history are ignored.
      dense: X, columns of the input "dense". attention: hidden widths of w. hidden: widths of the MLP.
      activation: "dice", "prelu" or "relu", in both.
      seed, backend, precision, admit_hook, filter_hook: as in EmbeddingOption. sharding: one for all tables, or by field;
        a field without an entry has "row".
      cache: a CacheConfig whose bytes all tables share.

    Raises:
      ValueError: there is no history, a target is no field, a history is a field too, `activation` is none, or `sharding`
        names a table that the model does not have.

    Zhou et al. 2018, arXiv:1706.06978.
    """

    def __init__(
        self,
        fields: Sequence[str],
        embedding_dim: int = 16,
        *,
        histories: Mapping[str, str] = ITEM_HISTORY,
        dense: int = 0,
        attention: Sequence[int] = (32,),
        hidden: Sequence[int] = (128, 64),
        activation: str = "dice",
        seed: int = 0,
        backend: str | None = None,
        precision: str | Precision | None = None,
        sharding: Shardings = "row",
        admit_hook: AdmitHook | str | None = None,
        filter_hook: FilterHook | str | None = None,
        cache: CacheConfig | None = None,
    ) -> None:
        super().__init__()
        self.fields, self.histories = list(fields), dict(histories)
        _check_histories(self.fields, self.histories)
        check_names(sharding, self.fields)

        def option(table: str, combiner: str) -> EmbeddingOption:
            return EmbeddingOption(
                embedding_dim, shared_name=table, combiner=combiner, use_weight=combiner != "none", seed=seed,
                backend=backend, precision=precision, sharding=sharding_of(sharding, table), admit_hook=admit_hook,
                filter_hook=filter_hook,
            )  # fmt: skip

        self.embeddings = EmbeddingEngine(
            {f: option(f, "sum") for f in self.fields} | {h: option(t, "none") for h, t in self.histories.items()},
            cache=cache,
        )
        self.attention = nn.ModuleList(TargetAttention(embedding_dim, attention, activation) for _ in self.histories)
        width = (len(self.fields) + len(self.histories)) * embedding_dim + dense
        self.dense = dense
        self.tower = mlp([width, *hidden, 1], activation=activation_of(activation))

    def sparse_features(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The features that forward passes to `embeddings`; for a Prefetcher."""
        return taken(batch, (*self.fields, *self.histories))

    def forward(self, batch: Mapping[str, Any]) -> Tensor:
        """{field: ids, history: ragged ids, and "dense": float32 [B, X] if the model has dense columns} -> logits float32 [B].

        Raises:
          ValueError: a history has more than one level, or another number of rows than its target.
        """
        given = self.sparse_features(batch)
        for history, target in self.histories.items():
            _check_rows(history, given[history], target, given[target])
        dense = [dense_of(batch, self.dense)] if self.dense else []
        out: dict[str, Any] = self.embeddings(given)
        interests = [
            attend(out[target], out[history])
            for attend, (history, target) in zip(self.attention, self.histories.items(), strict=True)
        ]
        return self.tower(torch.cat([*(out[f] for f in self.fields), *interests, *dense], dim=1)).sum(1)


def _check_histories(fields: Sequence[str], histories: Mapping[str, str]) -> None:
    if not histories:
        raise ValueError("histories must name a history and its target; got {}. Without one use DeepFM or DLRM.")
    for history, target in histories.items():
        if target not in fields:
            raise ValueError(f"the target of history {history!r} must be one of the fields {fields}; got {target!r}.")
        if history in fields:
            raise ValueError(f"history {history!r} is named as a field, too; leave it out of fields.")


def _check_rows(name: str, history: Any, target: str, items: Any) -> None:
    levels = len(history.offsets()) if isinstance(history, RaggedTensor) else 1
    if levels != 1 or len(history) != len(items):
        raise ValueError(
            f"history {name!r} must have one level, and a row for each of {target!r}, {len(items)}; got {levels} level(s) of "
            f"{len(history)} rows."
        )
