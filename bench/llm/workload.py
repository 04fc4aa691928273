"""What is trained on: a decoder's sizes, and sequences of a prompt, a user, a context and items that Zipf's law draws.

Sizes: B rows of a rank's batch, T positions of a row, C candidates.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from recis_core.models.llm import DecoderWithTables
from recis_core.nn import EmbeddingOption

os.environ["HF_HUB_OFFLINE"] = "1"  # read when transformers is imported


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Sizes that all competitors share; see LlmConfig."""

    items: int
    dim: int
    width: int
    layers: int
    vocabulary: int
    rows: int
    prompt: int
    history: int
    candidates: int
    checkpointing: bool
    seed: int

    @property
    def positions(self) -> int:
        """T: the prompt, a user, a context, and items."""
        return self.prompt + 2 + self.history


def decoder_config(plan: Plan) -> Any:
    from transformers import Qwen3Config

    return Qwen3Config(
        vocab_size=plan.vocabulary, hidden_size=plan.width, intermediate_size=3 * plan.width, head_dim=32,
        num_hidden_layers=plan.layers, num_attention_heads=plan.width // 32, num_key_value_heads=plan.width // 32,
        max_position_embeddings=plan.positions,
    )  # fmt: skip


def tables(plan: Plan) -> dict[str, int]:
    """How many ids each feature has."""
    return {"user": plan.items // 4, "context": 100, "item": plan.items}


def with_tables(plan: Plan) -> DecoderWithTables:
    """The model, whose tables hold no row yet. Candidates come with each batch, so that competitors see the same."""
    options = {name: EmbeddingOption(plan.dim, seed=plan.seed) for name in tables(plan)}
    return DecoderWithTables(
        decoder_config(plan), options, in_batch=False, checkpointing=plan.checkpointing, seed=plan.seed
    )


def batches(model: DecoderWithTables, plan: Plan, rank: int, count: int) -> list[dict[str, Any]]:
    draw = np.random.default_rng([plan.seed, rank])
    return [_batch(model, plan, draw) for _ in range(count)]


def _batch(model: DecoderWithTables, plan: Plan, draw: np.random.Generator) -> dict[str, Any]:
    def zipf(of: int, *shape: int) -> torch.Tensor:
        return torch.from_numpy((draw.zipf(1.2, shape) - 1) % of)

    counts = tables(plan)
    given: dict[str, Any] = {
        "user": zipf(counts["user"], plan.rows),
        "context": zipf(counts["context"], plan.rows),
        "item": zipf(counts["item"], plan.rows, plan.history),
        "prompt": torch.from_numpy(draw.integers(0, plan.vocabulary, (plan.rows, plan.prompt))),
        "candidates": torch.from_numpy(draw.integers(0, plan.items, plan.candidates)),
    }
    return {"tokens": model.sequence(given, "prompt", "user", "context", "item"), **given}
