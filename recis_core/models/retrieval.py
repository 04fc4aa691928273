"""Training of two towers by negatives, and the search among all items.

Sizes: B rows of a batch, n negatives drawn, I items, O width of a tower's output, k places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from recis_core.models.losses import sampled_softmax
from recis_core.models.negative_sampler import NegativeSampler
from recis_core.models.two_tower import TwoTower
from recis_core.ragged import RaggedTensor

Features = Mapping[str, Any]


class Retrieval(nn.Module):
    """What a Trainer trains of a TwoTower: the sampled softmax of each row's item against other items.

    Candidates are the items of the batch's other rows, and `negatives` ids of the item's table, drawn by the sampler. A
    candidate is then as likely as q = (B·share + n·q_sampler) / (B + n), whose log is taken off scores. With several ranks each
    has its own rows' items, and all have the same drawn ids.

    Args:
      towers: a TwoTower. sampler: of its item's table; it counts the batches' items. None: no correction.
      negatives: n, drawn at each step in training; none in eval. in_batch: whether other rows' items are candidates.
      item_features: from drawn ids int64 [n] to the item's other fields; needed if there are any.

    Raises:
      ValueError: there are no candidates of either kind, no sampler to draw from, it is another table's, or `item_features` is
        missing.
    """

    def __init__(
        self,
        towers: TwoTower,
        sampler: NegativeSampler | None = None,
        *,
        negatives: int = 0,
        in_batch: bool = True,
        item_features: Callable[[Tensor], Features] | None = None,
    ) -> None:
        super().__init__()
        _check(towers, sampler, negatives, in_batch, item_features)
        self.towers, self.sampler, self.negatives, self.in_batch = towers, sampler, negatives, in_batch
        self.item_features = item_features

    def sparse_features(self, batch: Features) -> dict[str, Any]:
        """The features that forward passes to the towers' `embeddings`, without negatives."""
        return self.towers.sparse_features(batch)

    def forward(self, batch: Features) -> Tensor:
        """{field: ids, the item's of one id a row} -> the mean loss of the rows, 0-d."""
        ids = _one_a_row(self.sparse_features(batch)[self.towers.item], self.towers.item)
        drawn, log_q = self._draw(ids)
        users, vectors = self.towers.vectors(batch, self._with(batch, drawn))
        B, kept = len(ids), slice(0 if self.in_batch else len(ids), None)
        losses = sampled_softmax(
            users, vectors[:B], ids, vectors[kept], torch.cat([ids, drawn])[kept],
            log_q=None if log_q is None else log_q[:B], candidate_log_q=None if log_q is None else log_q[kept],
        )  # fmt: skip
        return losses.sum() / max(B, 1)  # of no rows 0, where a mean is NaN

    def _draw(self, ids: Tensor) -> tuple[Tensor, Tensor | None]:
        """Ids drawn, int64 [n]; and log q of the rows' and of these, float32 [B + n]."""
        if self.sampler is None:
            return ids[:0], None
        drawn = ids[:0]
        if self.training:  # an evaluation changes no draw to come
            self.sampler.update(ids)
            drawn = self.sampler.sample(self.negatives).ids
        B, n = len(ids) if self.in_batch else 0, len(drawn)
        both = torch.cat([ids, drawn])
        q = B * self.sampler.log_share(both).exp() + (n * self.sampler.log_q(both).exp() if n else 0)
        return drawn, torch.log(q / max(B + n, 1)) if B + n else torch.zeros_like(q)

    def _with(self, batch: Features, drawn: Tensor) -> Features:
        """The batch's item fields, and after them those of drawn ids."""
        if not len(drawn):
            return batch
        others = {} if self.item_features is None else self.item_features(drawn)
        return {f: _joined(batch[f], {**others, self.towers.item: drawn}[f]) for f in self.towers.item_fields}


class ItemIndex:
    """All items' vectors, for an exact search.

    Args:
      ids: int64 [I]. vectors: float32 [I, O].
    """

    def __init__(self, ids: Tensor, vectors: Tensor) -> None:
        if ids.shape != vectors.shape[:1]:
            raise ValueError(f"there must be one vector an id; got {list(ids.shape)} and {list(vectors.shape)}.")
        self.ids, self.vectors = ids, vectors

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        towers: TwoTower,
        ids: Tensor,
        *,
        item_features: Callable[[Tensor], Features] | None = None,
        chunk: int = 65_536,
    ) -> ItemIndex:
        """The vectors of items, in eval: `all_ids(table)`, say. Collective with several ranks, which give the same ids."""
        training = towers.training
        towers.eval()
        try:
            parts = [
                towers.items({towers.item: part, **(item_features(part) if item_features else {})})
                for part in ids.split(chunk)
            ]
        finally:
            towers.train(training)
        return cls(ids, torch.cat(parts))

    @torch.no_grad()
    def top(self, users: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k best items of each user, best first: (ids int64 [B, k], scores float32 [B, k]). users: float32 [B, O]."""
        scores, at = (users @ self.vectors.T).topk(min(k, len(self.ids)), dim=1)
        return self.ids[at], scores


def ranked_rows(ids: Tensor, scores: Tensor, positives: Tensor, first: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """What metrics of rankings take, of each row's best items: (predictions, labels, groups), each [B·(k + 1)].

    Each row is a group, numbered from `first`, of its k items and, below them, its positive if it is not among them; so that
    `RecallAtK(k).update(*ranked_rows(*index.top(users, k), positives))` is the recall over all items.

    Args:
      ids: int64 [B, k], scores: floating [B, k], as of ItemIndex.top. positives: int64 [B].
    """
    hits = ids == positives[:, None]
    below = scores.amin(1, keepdim=True) - 1
    predictions = torch.cat([scores, below], dim=1)
    labels = torch.cat([hits, ~hits.any(1, keepdim=True)], dim=1)
    groups = torch.arange(first, first + len(ids), device=ids.device)[:, None].expand_as(labels)
    return predictions.flatten(), labels.long().flatten(), groups.flatten()


def _check(
    towers: TwoTower, sampler: NegativeSampler | None, negatives: int, in_batch: bool,
    item_features: Callable[[Tensor], Features] | None,
) -> None:  # fmt: skip
    if negatives < 0 or not (in_batch or negatives):
        raise ValueError(
            f"candidates must come from the batch, or be drawn; got in_batch={in_batch}, negatives={negatives}."
        )
    if negatives and sampler is None:
        raise ValueError(f"negatives={negatives} need a sampler, NegativeSampler(engine.table({towers.item!r})).")
    table = towers.embeddings.options[towers.item].shared_name
    if sampler is not None and sampler.table is not towers.embeddings.table(str(table)):
        raise ValueError(f"the sampler must be of the towers' table {table!r}; got one of {sampler.table.name!r}.")
    if negatives and len(towers.item_fields) > 1 and item_features is None:
        raise ValueError(f"drawn ids need item_features=, a function to {towers.item_fields[1:]} of ids; got None.")


def _one_a_row(ids: Any, field: str) -> Tensor:
    """int64 [B]. Raises ValueError if a row has no id, or several."""
    if isinstance(ids, RaggedTensor):
        if len(ids.offsets()) == 1 and bool((ids.lengths() == 1).all()):
            return ids.values()
    elif ids.dim() == 1 or ids.shape[1:] == (1,):
        return ids.flatten()
    raise ValueError(f"{field!r} must have one id a row, for it names the item; got {ids!r:.80}.")


def _joined(rows: Any, more: Any) -> Any:
    """A feature of the batch's rows, then of others."""
    if isinstance(rows, RaggedTensor) or isinstance(more, RaggedTensor):
        return RaggedTensor.concatenated([_ragged(rows), _ragged(more)])
    return torch.cat([rows, more.reshape(-1, *rows.shape[1:])])


def _ragged(given: Any) -> RaggedTensor:
    if isinstance(given, RaggedTensor):
        return given
    return RaggedTensor.from_dense(given if given.dim() > 1 else given[:, None])
