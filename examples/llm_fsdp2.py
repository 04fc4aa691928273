"""A decoder of transformers whose sequences hold users and items of dynamic tables; it learns what each user takes next.

    python examples/llm_fsdp2.py --steps 150
    torchrun --nproc-per-node 2 examples/llm_fsdp2.py --steps 150 --bf16          FSDP2, on GPUs or on a CPU

The decoder is a small Qwen3 of random weights; from_pretrained's would be given in the same place. Checkpoints are written behind
training; the same command goes on from the last one. --lora trains adapters and tables alone.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from transformers import Qwen3Config

from recis_core.framework import Trainer, TrainingArguments
from recis_core.hooks import ProgressHook
from recis_core.models.llm import DecoderWithTables, shard_decoder
from recis_core.nn import EmbeddingOption
from recis_core.optim import SparseAdam, join
from recis_core.ragged import RaggedTensor
from recis_core.serialize import CheckpointManager, EverySteps

CATALOGUE = 10**12 + torch.arange(50)  # ids of items are any numbers of 64 bits
PROMPT, THEN = [7, 3, 9], [4]  # of a tokenizer: "What does the user … take after", ":"


def model_of(device: torch.device, lora: bool) -> DecoderWithTables:
    config = Qwen3Config(
        vocab_size=32, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=64,
    )  # fmt: skip
    options = {name: EmbeddingOption(32, device=device) for name in ("user", "item")}
    adapters = None
    if lora:
        from peft import LoraConfig

        adapters = LoraConfig(r=8, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])
    return DecoderWithTables(config, options, checkpointing=True, lora=adapters).to(device)


def sessions(model: DecoderWithTables, number: int, rows: int) -> dict[str, Any]:
    """Two to nine items a user, who takes every first, second … item of the catalogue after the last, by taste."""
    draw = torch.Generator().manual_seed(number)
    user = torch.randint(0, 300, (rows,), generator=draw)
    lengths = torch.randint(2, 10, (rows,), generator=draw)
    place = torch.arange(int(lengths.sum())) - (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
    first = torch.randint(0, 50, (rows,), generator=draw).repeat_interleave(lengths)
    item = (first + place * (1 + user % 5).repeat_interleave(lengths)) % 50
    given: dict[str, Any] = {
        "user": user * 7919,
        "item": RaggedTensor(CATALOGUE[item], torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])),
    }
    tokens = model.sequence(given, PROMPT, "user", THEN, "item")
    device = next(model.parameters()).device
    return {name: value.to(device) for name, value in {"tokens": tokens, **given}.items()}


@torch.no_grad()
def hit_rate(model: DecoderWithTables, batches: list[dict[str, Any]], k: int = 3) -> float:
    """How often the last item is among the k that score highest, after those before it."""
    hits: list[Tensor] = []
    for batch in batches:
        items, lengths = batch["item"], batch["item"].lengths()
        last = items.values()[items.offsets()[0][1:] - 1]
        before = torch.ones(len(items.values()), dtype=torch.bool, device=last.device)
        before[items.offsets()[0][1:] - 1] = False
        offsets = torch.cat([lengths.new_zeros(1), (lengths - 1).cumsum(0)])
        given = {"user": batch["user"], "item": RaggedTensor(items.values()[before], offsets)}
        given["tokens"] = model.sequence(given, PROMPT, "user", THEN, "item")
        catalogue = CATALOGUE.to(last.device)
        best = catalogue[model.score(given, catalogue).topk(k).indices]
        hits.append((best == last[:, None]).any(1).float())
    return torch.cat(hits).mean().item()


def main(steps: int, batch_size: int, directory: str, bf16: bool, lora: bool) -> None:
    device = (
        torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if torch.cuda.is_available() else torch.device("cpu")
    )
    if "RANK" in os.environ:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    model = model_of(device, lora)
    if dist.is_initialized():
        shard_decoder(model, dtype=torch.bfloat16 if bf16 else None)
    dense = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    # Batches of rank 0 are 0, world, 2·world, …; two of each rank make a step.
    data = [sessions(model, number, batch_size) for number in range(rank, 2 * world * steps, world)]
    trainer = Trainer(
        model, TrainingArguments(
            train_steps=steps, gradient_accumulation_steps=2, max_grad_norm=1.0, parallel="none",
            mixed_precision="bf16" if bf16 and not dist.is_initialized() else None,
        ), data,
        optimizers=join(dense, SparseAdam(model.engine.sparse_parameters(), lr=1e-2)), rows=model.predicted,
        hooks=[ProgressHook()] if rank == 0 else [], checkpoints=CheckpointManager(directory, save=EverySteps(50)),
    )  # fmt: skip
    trainer.restore()
    trainer.train()
    model.eval()
    hits = hit_rate(model, [sessions(model, 10**6 + number, 64) for number in range(4)])
    rows = sum(len(table) for table in model.engine.sparse_parameters().values())
    if rank == 0:
        print(
            f"{trainer.step} steps, {trainer.rows:,} items predicted, {rows} rows, HR@3 {hits:.3f}, by chance {3 / 50:.3f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--directory", default="llm-fsdp2")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--lora", action="store_true")
    main(**vars(parser.parse_args()))
