"""A small decoder beside three tables, its data and its Trainer, that tests of recis_core.models.llm share.

Sizes: B rows of a batch, V = 24 tokens, H = 16 width.
"""

from __future__ import annotations

import os
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # read when transformers is imported: nothing may be looked for

import torch
from torch import nn

from recis_core.framework import Trainer, TrainingArguments
from recis_core.hooks import Hook
from recis_core.models.llm import DecoderWithTables
from recis_core.nn import EmbeddingOption
from recis_core.optim import SparseAdam, SparseSGD, join
from recis_core.ragged import RaggedTensor

V, H = 24, 16
SIZES = {
    "vocab_size": V, "hidden_size": H, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 32,
}  # fmt: skip
BIG = 1 << 60  # ids are beyond what a float holds


def config(**other: Any) -> Any:
    from transformers import Qwen3Config

    return Qwen3Config(**{**SIZES, "head_dim": 8, "attn_implementation": "sdpa", **other})


def options(**how: Any) -> dict[str, EmbeddingOption]:
    """Users are as wide as the decoder; items and context are projected."""
    backend = how.pop("backend", "torch")
    return {
        name: EmbeddingOption(dim, backend=backend, **how) for name, dim in (("user", H), ("context", 4), ("item", 8))
    }


def model_of(decoder: Any = None, **how: Any) -> DecoderWithTables:
    table_options = how.pop("options", None) or options()
    return DecoderWithTables(config() if decoder is None else decoder, table_options, **how)


def ragged(rows: list[list[int]]) -> RaggedTensor:
    lengths = torch.tensor([0, *map(len, rows)])
    return RaggedTensor(torch.tensor([i for row in rows for i in row], dtype=torch.int64), lengths.cumsum(0))


def features(number: int, rows: int = 4) -> dict[str, Any]:
    """A user, a context, a title of tokens and one to five items in each row."""
    draw = torch.Generator().manual_seed(number)

    def ids(count: int, limit: int) -> list[int]:
        return torch.randint(0, limit, (count,), generator=draw).tolist()

    return {
        "user": torch.tensor(ids(rows, 20)) + BIG,
        "context": torch.tensor(ids(rows, 6)),
        "title": ragged([ids(n, V) for n in ids(rows, 3)]),
        "item": ragged([[BIG + i for i in ids(1 + n, 15)] for n in ids(rows, 5)]),
    }


def batch(number: int, rows: int = 4, model: DecoderWithTables | None = None) -> dict[str, Any]:
    """With the tokens [1] user [2 3] context title items, and ten candidates, some of which it has."""
    model = model_for_sequences() if model is None else model
    found = features(number, rows)
    tokens = model.sequence(found, [1], "user", [2, 3], "context", "title", "item")
    return {"tokens": tokens, **found, "candidates": torch.arange(BIG + 10, BIG + 20)}


_SEQUENCES: list[DecoderWithTables] = []


def model_for_sequences() -> DecoderWithTables:
    if not _SEQUENCES:
        _SEQUENCES.append(model_of())
    return _SEQUENCES[0]


def halves(whole: dict[str, Any]) -> list[dict[str, Any]]:
    """The first row, and the others; the candidates are in both."""
    rows = len(whole["user"])

    def part(value: Any, begin: int, end: int) -> Any:
        return value.rows(begin, end) if isinstance(value, RaggedTensor) else value[begin:end]

    return [
        {name: value if name == "candidates" else part(value, begin, end) for name, value in whole.items()}
        for begin, end in ((0, 1), (1, rows))
    ]


class Losses(Hook):
    """Notes what steps gave."""

    def __init__(self) -> None:
        self.results: list[Any] = []

    def after_step(self, run: Any, result: Any) -> None:
        self.results.append(result)

    @property
    def losses(self) -> list[float]:
        return [result.loss for result in self.results]


def trainer_of(model: DecoderWithTables, data: Any, *, kind: str = "adam", more: Any = None, **args: Any) -> Trainer:
    """With a hook Losses, as `heard`."""
    tables = model.engine.sparse_parameters()
    dense = [p for p in model.parameters() if p.requires_grad]
    if kind == "sgd":
        both = join(torch.optim.SGD(dense, lr=0.5), SparseSGD(tables, lr=0.5))
    else:
        both = join(torch.optim.AdamW(dense, lr=1e-2), SparseAdam(tables, lr=1e-2))
    heard = Losses()
    trainer = Trainer(
        model, TrainingArguments(**args), data, optimizers=both, rows=model.predicted, hooks=[heard], **(more or {})
    )
    trainer.heard = heard  # type: ignore[attr-defined]
    return trainer


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Dense parameters, whole, and rows and slots of this rank's tables in the order of ids. Collective under FSDP2."""
    found = {n: getattr(p, "full_tensor", lambda p=p: p)().detach().clone() for n, p in model.named_parameters()}
    for name, table in model.engine.sparse_parameters().items():
        shot = table.snapshot()
        order = shot.ids.argsort()
        found[f"{name} ids"], found[f"{name} rows"] = shot.ids[order], shot.weights[order]
        found |= {f"{name} {slot}": rows[order] for slot, rows in shot.slots.items()}
    return found


def differing(a: nn.Module | dict[str, torch.Tensor], b: nn.Module | dict[str, torch.Tensor]) -> list[str]:
    """Names of weights that are not the same bits."""
    one, other = (w if isinstance(w, dict) else weights_of(w) for w in (a, b))
    names = one.keys() | other.keys()
    return sorted(n for n in names if n not in one or n not in other or not torch.equal(one[n], other[n]))
