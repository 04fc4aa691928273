"""A run's numbers, as RecIS names them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class TrainingArguments:
    """train_steps: of an epoch, of which train_steps − 1 are made, as in RecIS; None for all."""

    gradient_accumulation_steps: int = 1
    output_dir: str = "output_dir"
    model_bank: list | None = None
    log_steps: int = 100
    train_steps: int | None = None
    train_epoch: int | None = 1
    eval_steps: int | None = None
    save_steps: int | None = 1000
    max_to_keep: int = 5
    save_concurrency_per_rank: int = 4
