"""MMoE: several tasks over shared experts.

Sizes: B rows of a batch, F sparse fields, D dim, X dense columns, E experts, H width of an expert's output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from recis_core.exchange import Precision
from recis_core.models.inputs import dense_of, taken
from recis_core.models.mlp import mlp
from recis_core.models.shardings import Shardings, check_names, sharding_of
from recis_core.nn import AdmitHook, CacheConfig, EmbeddingEngine, EmbeddingOption, FilterHook


class MMoE(nn.Module):
    """Multi-gate mixture of experts: each task has a gate over experts that all tasks share, and a tower.

    x = [v_1 .. v_F, dense];  logit_t = tower_t(Σ_e softmax(G_t x)_e · expert_e(x))

    `recis_core.models.task_losses` makes losses by task of the output.

    Args:
      fields: names of sparse features; each has a table of `embedding_dim` columns.
      tasks: names of the outputs. embedding_dim: D. dense: X, columns of the input "dense".
      experts: E. expert: widths of an expert's layers, the last of them H. tower: hidden widths of each task's tower.
      combiner: of ids in a bag.
      seed, backend, precision, admit_hook, filter_hook: as in EmbeddingOption. sharding: one for all tables, or by field;
        a field without an entry has "row".
      cache: a CacheConfig whose bytes all tables share.

    Raises:
      ValueError: tasks are none or not distinct, there is no expert, an expert has no layer, or `sharding` names a table that
        the model does not have.

    Ma et al. 2018, Modeling task relationships in multi-task learning with multi-gate mixture-of-experts, KDD,
    doi:10.1145/3219819.3220007.
    """

    def __init__(
        self,
        fields: Sequence[str],
        tasks: Sequence[str],
        embedding_dim: int = 16,
        *,
        dense: int = 0,
        experts: int = 4,
        expert: Sequence[int] = (64, 32),
        tower: Sequence[int] = (16,),
        combiner: str = "sum",
        seed: int = 0,
        backend: str | None = None,
        precision: str | Precision | None = None,
        sharding: Shardings = "row",
        admit_hook: AdmitHook | str | None = None,
        filter_hook: FilterHook | str | None = None,
        cache: CacheConfig | None = None,
    ) -> None:
        super().__init__()
        self.fields, self.tasks = list(fields), list(tasks)
        if not self.tasks or len(set(self.tasks)) != len(self.tasks) or isinstance(tasks, str):
            raise ValueError(f"tasks must be distinct names, one at least; got {tasks!r}.")
        if experts < 1 or not expert:
            raise ValueError(
                f"there must be an expert, of one layer at least; got experts={experts}, expert={expert!r}."
            )
        check_names(sharding, self.fields)
        self.embeddings = EmbeddingEngine(
            {
                f: EmbeddingOption(
                    embedding_dim, combiner=combiner, seed=seed, backend=backend, precision=precision,
                    sharding=sharding_of(sharding, f), admit_hook=admit_hook, filter_hook=filter_hook,
                )
                for f in self.fields
            },
            cache=cache,
        )  # fmt: skip
        width, self.dense = len(self.fields) * embedding_dim + dense, dense
        self.experts = nn.ModuleList(mlp([width, *expert], last_relu=True) for _ in range(experts))
        self.gates = nn.ModuleList(nn.Linear(width, experts, bias=False) for _ in self.tasks)
        self.towers = nn.ModuleList(mlp([expert[-1], *tower, 1]) for _ in self.tasks)

    def sparse_features(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The features that forward passes to `embeddings`; for a Prefetcher."""
        return taken(batch, self.fields)

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """{field: ids, and "dense": float32 [B, X] if the model has dense columns} -> {task: logits float32 [B]}."""
        dense = [dense_of(batch, self.dense)] if self.dense else []
        out = self.embeddings(self.sparse_features(batch))
        x = torch.cat([*(out[f] for f in self.fields), *dense], dim=1)
        seen = torch.stack([expert(x) for expert in self.experts], dim=1)  # [B, E, H]
        return {
            task: tower((gate(x).softmax(1).unsqueeze(2) * seen).sum(1)).sum(1)
            for task, gate, tower in zip(self.tasks, self.gates, self.towers, strict=True)
        }
