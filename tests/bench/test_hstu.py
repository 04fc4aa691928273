"""python -m bench hstu: a row each of lengths and windows, and nothing is timed whose values differ."""

import json

import pytest
import torch

from recis_core.bench import hstu
from recis_core.bench.hstu import HSTUCase, HSTUConfig, made, step
from recis_core.models.hstu import HSTULayer

SMALL = HSTUConfig(ids=256, longest=128, dim=8, steps=1, window=32)


@pytest.mark.full
def test_rows(tmp_path):
    out = tmp_path / "rows.jsonl"
    flags = {"ids": 256, "longest": 128, "dim": 8, "steps": 1, "window": 32, "padded_gb": 0.004, "out": out}
    assert hstu.run([word for name, value in flags.items() for word in (f"--{name}", str(value))]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["shape"], row["longest"], row["window"]) for row in rows[:4]] == [
        ("one length", 64, None), ("one length", 64, 32), ("one length", 128, None), ("one length", 128, 32)
    ]  # fmt: skip
    assert all(row["step_ms"] > 0 and row["cpu_ms"] > 0 and row["peak_mb"] > 0 for row in rows)
    fits = [row["padded_needs_gb"] <= 0.004 for row in rows]
    assert fits == ["padded_ms" in row for row in rows]
    assert any(fits)
    assert not all(fits)


def test_shapes_hold_the_ids_that_were_asked_for():
    shapes = list(hstu.shapes(HSTUConfig()))
    assert {sum(lengths) for shape, lengths in shapes if shape != "more ids"} == {8192}
    assert [max(lengths) for shape, lengths in shapes if shape == "one length"] == [64, 128, 256, 512, 1024, 2048, 4096]
    assert [sum(lengths) for shape, lengths in shapes if shape == "more ids"] == [8192, 16384, 32768]


def test_padding_agrees_and_a_difference_is_seen(monkeypatch):
    hstu.check(SMALL)
    forward = HSTULayer.forward
    monkeypatch.setattr(HSTULayer, "forward", lambda self, *given: forward(self, *given) * 1.01)
    with pytest.raises(RuntimeError, match="other values than HSTULayer: nothing was timed"):
        hstu.check(SMALL)


def test_a_step_gives_gradients_of_all_weights():
    case = HSTUCase(shape="x", lengths=(20, 3), window=8)
    out, *gradients = step(case, *made(case, SMALL))
    assert out.shape == (23, 8)
    assert len(gradients) == 1 + 2 * len(list(HSTULayer(8, 2, times=True).parameters()))
    assert all(torch.count_nonzero(g) for g in gradients)
