"""The DLRM under TorchRec's names, by hand."""

from __future__ import annotations

import pytest
import torch

from recis_core.compat.torchrec import EmbeddingBagCollection, EmbeddingBagConfig
from recis_core.compat.torchrec.datasets.utils import Batch
from recis_core.compat.torchrec.models.dlrm import DLRM, DLRMTrain, InteractionArch
from tests.compat.torchrec.batches import bags, batch


def test_products_of_each_two_vectors() -> None:
    dense, sparse = torch.tensor([[1.0, 2.0]]), torch.tensor([[[3.0, 4.0], [5.0, 6.0]]])
    assert InteractionArch(2)(dense, sparse).tolist() == [[1.0, 2.0, 11.0, 17.0, 39.0]]


def test_it_gives_a_loss_and_logits() -> None:
    tables = [EmbeddingBagConfig(10, 4, f"t_{name}", feature_names=[name]) for name in ("user", "item")]
    model = DLRMTrain(DLRM(EmbeddingBagCollection(tables), 3, [8, 4], [6, 1]))
    given = Batch(torch.rand(3, 3), batch(), torch.tensor([0, 1, 1]))
    loss, (same, logits, labels) = model(given)
    assert torch.equal(loss.detach(), same)
    assert loss.item() == pytest.approx(
        torch.nn.functional.binary_cross_entropy_with_logits(logits, labels.float()).item()
    )
    assert "model.sparse_arch.embedding_bag_collection.embedding_bags.t_user.weight" in model.state_dict()
    with pytest.raises(ValueError, match="one embedding_dim, and features of their own"):
        DLRM(bags(), 3, [8, 4], [6, 1])
