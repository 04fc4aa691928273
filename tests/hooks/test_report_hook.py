"""ReportHook: what a run took."""

import io
import time

import pytest
import torch
from rich.console import Console
from torch import nn

from recis_core.features import Feature, FeatureEngine, SelectField
from recis_core.hooks import ReportHook, RunReport
from recis_core.hooks.module_clock import ModuleClock
from recis_core.hooks.run_report import phases_of
from tests.hooks.fake_run import FakeRun, Model, batches


class WithFeatures(Model):
    def __init__(self):
        super().__init__()
        self.features = FeatureEngine([Feature("user").add_op(SelectField("user"))])

    def forward(self, batch):
        return super().forward({**batch, **self.features({"user": batch["user"]})})


def reported(**options):
    console = Console(file=io.StringIO(), width=100, color_system=None)
    hook = ReportHook(console=console, **options)
    run = FakeRun(hook, model=WithFeatures())
    run.train(batches(1, 6))
    return hook, run, console.file.getvalue()


def test_the_report():
    hook, run, text = reported(peak_flops=1e9)
    report = hook.report
    assert (report.steps, report.rows) == (6, 48)
    assert report.rows_per_s == pytest.approx(48 / report.seconds)
    # forward 2·8·12·1, backward by the weights and by the vectors each as much
    assert report.flops_per_step == 3 * 2 * 8 * 12
    assert report.utilisation == pytest.approx(6 * 576 / report.seconds / 1e9)
    assert list(report.phases) == [
        "reading", "features", "lookup", "dense forward", "backward", "exchange", "update", "other",
    ]  # fmt: skip
    phases = report.phases
    assert phases["features"] + phases["lookup"] + phases["dense forward"] == pytest.approx(run.phases["forward"])
    assert min(phases["features"], phases["lookup"], phases["dense forward"], phases["other"]) > 0
    assert sum(phases.values()) == pytest.approx(report.seconds)
    assert text.splitlines()[0].startswith("6 steps, 48 rows in ")
    assert "% of the peak" in text
    assert all(phase in text for phase in phases)
    assert hook.numbers()["phases"] == phases


def test_without_a_peak_and_without_a_table():
    hook, _, text = reported(show=False)
    assert text == ""
    assert hook.report.utilisation is None
    assert hook.report.flops_per_s > 0


def test_a_run_that_fails_leaves_no_counter_and_no_hook():
    run = FakeRun(hook := ReportHook(), model=WithFeatures())

    def broken(batch):
        raise RuntimeError("forward")

    run.model.line.forward = broken
    with pytest.raises(RuntimeError, match="forward"):
        run.train(batches(1, 1))
    assert hook.report is None
    assert hook.numbers() == {}
    assert torch._C._len_torch_dispatch_stack() == 0
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in run.model.modules())


def test_training_goes_on_with_the_same_bits():
    run, plain = FakeRun(ReportHook(show=False)), FakeRun()
    run.train(batches(1, 4))
    plain.train(batches(1, 4))
    assert torch.equal(run.model.line.weight, plain.model.line.weight)


def test_only_this_training_counts():
    hook, run, _ = reported(show=False)
    first = hook.report
    run.phases["evaluating"] = 5.0
    run.train(batches(7, 8))
    assert (first.steps, hook.report.steps, hook.report.rows) == (6, 2, 16)
    assert hook.report.phases["evaluating"] == 0.0 or "evaluating" not in hook.report.phases


def test_phases_in_the_order_of_a_step():
    taken = {"reading": 1.0, "forward": 6.0, "backward": 2.0, "saving": 3.0, "evaluating": 4.0, "update": 1.0}
    assert phases_of(taken, {"features": 1.5, "lookup": 2.5}, 20.0) == {
        "reading": 1.0, "features": 1.5, "lookup": 2.5, "dense forward": 2.0, "backward": 2.0, "update": 1.0,
        "evaluating": 4.0, "saving": 3.0, "other": 3.0,
    }  # fmt: skip


def test_numbers_of_a_report():
    report = RunReport(10, 1000, 2.0, {"reading": 0.5, "other": 1.5}, 4_000_000, 1e8)
    assert (report.rows_per_s, report.flops_per_s, report.utilisation) == (500.0, 2e7, 0.2)
    assert report.numbers()["utilisation"] == 0.2
    assert RunReport(0, 0, 0.0, {}).numbers()["rows_per_s"] == 0.0


@pytest.mark.parametrize("peak", [0, -1.0, float("inf"), float("nan")])
def test_a_peak_is_a_positive_number(peak):
    with pytest.raises(ValueError, match="peak_flops must be positive and finite"):
        ReportHook(peak_flops=peak)


class Slow(nn.Module):
    def __init__(self, inner=None):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        time.sleep(0.01)
        return x if self.inner is None else self.inner(x)


def test_inner_modules_count_once_and_evaluations_do_not():
    model = Slow(Slow())
    clock = ModuleClock(model, {"slow": (Slow,)})
    model(1)
    assert 0.02 <= clock.seconds["slow"] < 0.035 or clock.seconds["slow"] < 0.2
    once = clock.seconds["slow"]
    model.eval()(1)
    assert clock.seconds["slow"] == once
    clock.close()
    model.train()(1)
    assert clock.seconds["slow"] == once
