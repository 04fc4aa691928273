"""DeepFM and DLRM: their formulas, and that they learn."""

import pytest
import torch

from recis_core.models import DLRM, DeepFM
from recis_core.nn import filter_out_sparse_param
from recis_core.optim import SparseAdam, join

IDS = {"a": torch.tensor([1, 2, 3]), "b": torch.tensor([9, 9, 7]), "c": torch.tensor([4, 5, 4])}


def test_deepfm_is_its_formula():
    model = DeepFM(["a", "b", "c"], 4, dense=2, hidden=(5,), init_std=0.5, backend="torch")
    batch = {**IDS, "dense": torch.randn(3, 2)}
    logits = model(batch)
    rows = model.embeddings(IDS | {f"{k}:linear": v for k, v in IDS.items()})
    v = [rows[k] for k in "abc"]
    pairs = sum((v[i] * v[j]).sum(1) for i in range(3) for j in range(i))
    linear = sum(rows[f"{k}:linear"][:, 0] for k in "abc") + model.dense_linear(batch["dense"])[:, 0]
    deep = model.tower(torch.cat([*v, batch["dense"]], 1))[:, 0]
    torch.testing.assert_close(logits, model.bias + linear + pairs + deep)


def test_dlrm_dot_is_its_formula():
    model = DLRM(["a", "b"], 4, dense=2, bottom=(3,), top=(5,), backend="torch")
    batch = {**IDS, "dense": torch.randn(3, 2)}
    rows, x = model.embeddings({k: IDS[k] for k in "ab"}), model.bottom(batch["dense"])
    dots = torch.stack([(x * rows["a"]).sum(1), (x * rows["b"]).sum(1), (rows["a"] * rows["b"]).sum(1)], 1)
    torch.testing.assert_close(model(batch), model.top(torch.cat([x, dots], 1))[:, 0])


def test_dlrm_dcn_crosses():
    model = DLRM(["a", "b"], 4, interaction="dcn", cross_layers=1, cross_rank=3, backend="torch")
    rows = model.embeddings({k: IDS[k] for k in "ab"})
    x0 = torch.cat([rows["a"], rows["b"]], 1)
    cross = model.interaction[1]
    x1 = x0 * cross.up[0](cross.down[0](x0)) + x0
    torch.testing.assert_close(model(IDS), model.top(x1)[:, 0])
    with pytest.raises(ValueError, match="'dot' or 'dcn'; got 'mlp'"):
        DLRM(["a"], interaction="mlp")


@pytest.mark.parametrize("make", [DeepFM, DLRM, lambda f, d, **kw: DLRM(f, d, interaction="dcn", **kw)])
def test_models_fit_a_handful_of_rows(backend, make):
    torch.manual_seed(0)
    model = make(["a", "b", "c"], 4, backend=backend)
    optimizer = join(torch.optim.Adam(model.parameters(), 0.02), SparseAdam(filter_out_sparse_param(model), 0.02))
    labels = torch.tensor([1.0, 0.0, 1.0])
    for _ in range(30):
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(IDS), labels)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


@pytest.mark.parametrize("model", [DeepFM, DLRM])
def test_precision_reaches_every_table(model):
    embeddings = model(["user", "item"], 4, precision="forward=int8,backward=int4+ef").embeddings
    assert {str(option.precision) for option in embeddings.options.values()} == {"forward=int8,backward=int4+ef"}
