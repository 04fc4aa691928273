"""NonFiniteHook names what is not finite, before a step changes anything."""

import logging

import pytest
import torch
from torch import nn

from recis_core.errors import NonFiniteGradient
from recis_core.hooks import Hook, NonFiniteHook
from recis_core.hooks.non_finite import OfTable
from tests.hooks.fake_run import FakeRun, Model, batch_of, batches

NAN, INF = float("nan"), float("inf")


class Poisons(nn.Module):
    """Multiplies by ones whose gradient, for some rows, is `value`."""

    def __init__(self, rows=(), value=NAN):
        super().__init__()
        self.rows, self.value = rows, value

    def forward(self, vectors):
        if not len(self.rows):
            return vectors
        factor = torch.ones(len(vectors), 1)
        factor[list(self.rows)] = self.value
        vectors.register_hook(lambda grad: grad * factor)
        return vectors


class Poisoned(Model):
    """The gradient of a feature's vectors is not finite in some rows of the batch."""

    def __init__(self, feature="item", rows=(), value=NAN, **options):
        super().__init__(**options)
        self.feature, self.poison = feature, Poisons(rows, value)

    def forward(self, batch):
        out = self.embeddings({name: batch[name] for name in self.embeddings.options})
        out[self.feature] = self.poison(out[self.feature])
        return self.line(torch.cat([out["item"], out["seen"], out["user"]], 1)).squeeze(1)


def values_of(model):
    tables = model.embeddings.sparse_parameters()
    dense = {name: value.clone() for name, value in model.state_dict().items() if "tables" not in name}
    return {name: table.embeddings() for name, table in tables.items()} | dense


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize(("feature", "table"), [("item", "item"), ("seen", "item"), ("user", "user")])
@pytest.mark.parametrize("value", [NAN, INF])
def test_names_table_feature_and_ids(backend, feature, table, value):
    model = Poisoned(feature, (2, 5), value, backend=backend)
    run, batch = FakeRun(NonFiniteHook(), model=model), batch_of(3)
    batch["item"], batch["seen"] = batch["item"] % 20, batch["seen"] % 20 + 20  # no id is of both
    ids = sorted(batch[feature][[2, 5]].tolist())
    model(batch)  # so that all rows are there
    before = values_of(model)
    with pytest.raises(NonFiniteGradient) as raised:
        run.train([batch])
    s = "s" * (ids[0] != ids[1])
    said = f"table {table} (feature {feature}): id{s} {', '.join(map(str, dict.fromkeys(ids)))}."
    assert str(raised.value).startswith(f"the gradient of step 1 is not finite: {said} Nothing was changed. Look at")
    after = values_of(model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_names_all_features_that_asked_for_an_id():
    run, batch = FakeRun(NonFiniteHook(), model=Poisoned("item", (0,))), batch_of(1)
    batch["seen"][4] = batch["item"][0]
    with pytest.raises(NonFiniteGradient, match=r"table item \(features item, seen\): id \d+\."):
        run.train([batch])


class PoisonsParameter(Hook):
    def before_step(self, run, batch):
        run.model.line.weight.register_hook(lambda grad: grad.index_fill(1, torch.tensor([3, 7]), INF))


def test_names_dense_parameters():
    run = FakeRun(PoisonsParameter(), NonFiniteHook())
    before = values_of(run.model)["line.weight"]
    with pytest.raises(NonFiniteGradient, match=r"is not finite: parameter line.weight: 2 of 12 values\. Nothing"):
        run.train(batches(1, 1))
    assert torch.equal(run.model.line.weight, before)


def test_one_loss_of_nan_names_everything():
    batch = batch_of(1)
    batch["label"][0] = NAN
    with pytest.raises(NonFiniteGradient) as raised:
        FakeRun(NonFiniteHook()).train([batch])
    assert [part in str(raised.value) for part in ("table item", "table user", "line.weight", "line.bias")] == [
        True
    ] * 4


def test_the_step_under_way_is_told_and_earlier_ids_are_forgotten():
    model = Poisoned("item", ())
    run = FakeRun(NonFiniteHook(), model=model)

    def turning_bad():
        batch = batch_of(1)
        batch["seen"][:] = 7
        yield batch
        batch = batch_of(2)
        batch["item"][:], batch["seen"][:] = 7, 8
        model.poison.rows = (0,)
        yield batch

    with pytest.raises(NonFiniteGradient, match=r"of step 2 is not finite: table item \(feature item\): id 7\."):
        run.train(turning_bad())
    assert run.step == 1


def test_many_ids_are_counted():
    assert (
        str(OfTable("t", ["f"], list(range(13)))) == "table t (feature f): ids 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 3 more"
    )
    assert str(OfTable("t", [], [-5])) == "table t: id -5"


def test_finite_gradients_pass_and_hooks_are_gone_afterwards():
    run = FakeRun(NonFiniteHook())
    run.train(batches(1, 3))
    assert run.step == 3
    assert not run.model.embeddings._forward_pre_hooks
    plain = FakeRun()
    plain.train(batches(1, 3))
    assert all(torch.equal(value, values_of(plain.model)[name]) for name, value in values_of(run.model).items())


def test_large_gradients_whose_sum_overflows_are_no_finding():
    model = Poisoned("user", ())
    run = FakeRun(hook := NonFiniteHook(), model=model)
    hook.before_train(run)
    model.line.weight.grad = torch.full((1, 12), 3e38)
    assert not hook._finite(run)
    hook.after_backward(run)
    hook.end(run)


def test_logging_instead(caplog):
    """Beside a GradScaler, which skips the step; here the dense side steps, for it is finite."""
    batch = batch_of(1)
    run = FakeRun(hook := NonFiniteHook(raises=False), model=Poisoned("item", (0,)))
    hook.before_train(run)
    run.model(batch).sum().backward()
    with caplog.at_level(logging.WARNING):
        hook.after_backward(run)
    hook.end(run)
    expected = f"the gradient of step 1 is not finite: table item (feature item): id {int(batch['item'][0])}."
    assert [record.getMessage() for record in caplog.records] == [expected]


def test_a_model_without_engines_knows_no_features():
    from recis_core.nn import HashTable

    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = HashTable([4], name="plain", backend="torch")
            self.line = nn.Linear(4, 1)

    run = FakeRun()
    run.model = Plain()
    out = run.model.table(torch.tensor([5, 9, 5]))
    out.register_hook(lambda grad: grad * torch.tensor([[1.0], [NAN], [1.0]]))
    hook = NonFiniteHook()
    hook.before_train(run)
    run.model.line(out).sum().backward()
    with pytest.raises(NonFiniteGradient, match=r"is not finite: table plain: id 9\. "):
        hook.after_backward(run)
    hook.end(run)
