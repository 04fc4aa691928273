"""torchrec.models.dlrm, with TorchRec's own state."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch

from tests.compat.torchrec.beside.configurations import require_close

OURS = "recis_core.compat.torchrec"


def built(root: str) -> tuple[Any, Any]:
    framework, models, utils = (
        import_module(root),
        import_module(f"{root}.models.dlrm"),
        import_module(f"{root}.datasets.utils"),
    )
    tables = [
        framework.EmbeddingBagConfig(name=f"t{i}", num_embeddings=9, embedding_dim=4, feature_names=[f"f{i}"])
        for i in range(3)
    ]
    model = models.DLRMTrain(models.DLRM(framework.EmbeddingBagCollection(tables=tables), 5, [8, 4], [6, 1]))
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(0, 3, (12,), generator=draw)
    ids = torch.randint(9, (int(lengths.sum()),), generator=draw)
    kjt = framework.KeyedJaggedTensor.from_lengths_sync(["f0", "f1", "f2"], ids, lengths)
    labels = torch.randint(2, (4,), generator=draw)
    return model, utils.Batch(torch.rand(4, 5, generator=draw), kjt, labels)


def test_losses_logits_and_gradients_are_torchrecs() -> None:
    (mine, my_batch), (other, their_batch) = built(OURS), built("torchrec")
    mine.load_state_dict(other.state_dict())
    (loss, (_, logits, labels)), (expected, (_, theirs, their_labels)) = mine(my_batch), other(their_batch)
    require_close(logits, theirs, 1e-5, "logits")
    assert torch.equal(labels, their_labels)
    loss.backward()
    expected.backward()
    dense = [name for name, _ in mine.named_parameters() if "embedding_bags" not in name]
    assert len(dense) == 8
    for name in dense:
        require_close(mine.get_parameter(name).grad, other.get_parameter(name).grad, 1e-4, name)


def test_wrong_sizes() -> None:
    framework, models = import_module(OURS), import_module(f"{OURS}.models.dlrm")
    ebc = framework.EmbeddingBagCollection([framework.EmbeddingBagConfig(9, 4, "t")])
    with pytest.raises(ValueError, match="must end with the tables' embedding_dim, 4"):
        models.DLRM(ebc, 5, [8, 3], [6, 1])
    with pytest.raises(ValueError, match="two or more"):
        models.DLRM(ebc, 5, [8, 4], [1])
