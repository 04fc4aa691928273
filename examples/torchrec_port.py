"""A DLRM written for TorchRec: trained by recis-core, or, without the two lines that install its names, by TorchRec itself.

    python examples/torchrec_port.py --steps 200
    python examples/torchrec_port.py --steps 200 --by-torchrec      # where TorchRec is installed

Tables step in backward, the dense layers once a batch, as TorchRec's programs do. Both give the same losses, for the program
gives all weights their first values itself.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if "--by-torchrec" not in sys.argv:
    import recis_core.compat

    recis_core.compat.install("torchrec")

from torchrec import EmbeddingBagCollection, KeyedJaggedTensor
from torchrec.datasets.utils import Batch
from torchrec.distributed.train_pipeline import TrainPipelineBase
from torchrec.modules.embedding_configs import EmbeddingBagConfig, PoolingType
from torchrec.modules.mlp import MLP
from torchrec.optim import KeyedOptimizerWrapper, RowWiseAdagrad
from torchrec.optim.apply_optimizer_in_backward import apply_optimizer_in_backward
from torchrec.optim.optimizers import in_backward_optimizer_filter

ROWS = {"user": 500, "item": 300, "category": 20}
DIM, DENSE = 8, 4


class DLRM(nn.Module):
    """Bottom layers, pooled rows, their pairwise products, top layers. Naumov et al. 2019, arXiv:1906.00091."""

    def __init__(self, ebc: EmbeddingBagCollection) -> None:
        super().__init__()
        self.ebc, self.bottom = ebc, MLP(DENSE, [16, DIM])
        vectors = 1 + len(ROWS)
        self.top = MLP(DIM + vectors * (vectors - 1) // 2, [16, 1], activation_on_last=False)

    def forward(self, batch: Batch) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        dense = self.bottom(batch.dense_features)
        pooled = self.ebc(batch.sparse_features).to_dict()
        vectors = torch.stack([dense, *[pooled[name] for name in ROWS]], 1)
        products = vectors @ vectors.transpose(1, 2)
        first, second = torch.triu_indices(len(ROWS) + 1, len(ROWS) + 1, 1)
        logits = self.top(torch.cat([dense, products[:, first, second]], 1)).squeeze(1)
        loss = F.binary_cross_entropy_with_logits(logits, batch.labels.float())
        return loss.reshape(1), (loss.detach(), logits.detach())


def batches(steps: int, batch_size: int) -> Iterator[Batch]:
    """Batches of clicks that a planted affinity of users and items decides; bags of categories may be empty."""
    draw = torch.Generator().manual_seed(0)
    tastes = {name: torch.randn(rows, generator=draw) for name, rows in ROWS.items()}
    for _ in range(steps):
        lengths = torch.ones(len(ROWS), batch_size, dtype=torch.int64)
        lengths[2] = torch.randint(0, 4, (batch_size,), generator=draw)
        ids = [
            torch.randint(rows, (int(n.sum()),), generator=draw) for rows, n in zip(ROWS.values(), lengths, strict=True)
        ]
        dense = torch.randn(batch_size, DENSE, generator=draw)
        affinity = 2 * tastes["user"][ids[0]] * tastes["item"][ids[1]] + tastes["item"][ids[1]] + dense[:, 0]
        labels = (torch.rand(batch_size, generator=draw) < affinity.sigmoid()).int()
        features = KeyedJaggedTensor.from_lengths_sync(list(ROWS), torch.cat(ids), lengths.reshape(-1))
        yield Batch(dense, features, labels)


def built() -> tuple[nn.Module, torch.optim.Optimizer]:
    """The model, and the optimizer of its dense layers."""
    tables = [
        EmbeddingBagConfig(
            name=f"t_{name}", embedding_dim=DIM, num_embeddings=rows, feature_names=[name],
            pooling=PoolingType.MEAN if name == "category" else PoolingType.SUM,
        )
        for name, rows in ROWS.items()
    ]  # fmt: skip
    model = DLRM(EmbeddingBagCollection(tables=tables))
    draw = torch.Generator().manual_seed(1)
    start = {name: torch.randn(value.shape, generator=draw) / 4 for name, value in sorted(model.state_dict().items())}
    model.load_state_dict(start)
    apply_optimizer_in_backward(RowWiseAdagrad, model.ebc.parameters(), {"lr": 0.1})
    dense = dict(in_backward_optimizer_filter(model.named_parameters()))
    return model, KeyedOptimizerWrapper(dense, lambda params: torch.optim.Adam(params, lr=0.01))


def main(steps: int, batch_size: int, by_torchrec: bool = False) -> list[float]:
    model, optimizer = built()
    pipeline = TrainPipelineBase(model, optimizer, torch.device("cpu"))
    reader, losses = batches(steps, batch_size), []
    while True:
        try:
            loss, _ = pipeline.progress(reader)
        except StopIteration:
            break
        losses.append(loss.item())
    first, last = sum(losses[:20]) / 20, sum(losses[-20:]) / 20
    print(f"{len(losses)} steps: loss of the first 20 batches {first:.4f}, of the last 20 {last:.4f}")
    return losses


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--by-torchrec", action="store_true")
    main(**vars(parser.parse_args()))
