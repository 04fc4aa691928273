"""The tuner by a clock of our own, on interpreted kernels; what it finds is asked before the heuristics."""

import json
import sys

import jax
import pytest

from recis_core.pallas_kernels import KeyConfig, PoolConfig, autotune, findings, tuning
from recis_core.pallas_kernels.catalog import KERNELS, fused_update
from recis_core.pallas_kernels.catalog.inputs import U
from recis_core.pallas_kernels.kernel import Sizes

SMALL = Sizes(ids=64, rows=32, dim=16)


@pytest.fixture
def on_a_gpu(monkeypatch, tmp_path):
    monkeypatch.setenv("RECIS_TUNING", str(tmp_path))
    monkeypatch.setattr(findings, "device_kind", lambda: "NVIDIA H200")
    findings.read.cache_clear()
    yield tmp_path / "nvidia-h200.json"
    findings.read.cache_clear()


def test_the_fastest_with_the_same_bits_is_kept(monkeypatch):
    default = tuning.dedup_config()
    slow, wrong, fast = (KeyConfig(keys, 4) for keys in (2048, 512, 256))
    monkeypatch.setattr(autotune, "neighbours", lambda config: iter((default, slow, wrong, fast)))
    clock = iter((3.0, 4.0, 2.0))  # the wrong one is never timed
    real = autotune._run

    def run(kernel, work, config, interpret):
        call = real(kernel, work, config, interpret)
        return (lambda *a: jax.tree.map(lambda x: x + 1, call(*a))) if config == wrong else call

    monkeypatch.setattr(autotune, "_run", run)
    best, times = autotune.tune(KERNELS["dedup"], SMALL, lambda call: next(clock), interpret=True)
    assert best == fast
    assert times == {default: 3.0, slow: 4.0, fast: 2.0}


def test_what_does_not_compile_is_no_candidate(monkeypatch):
    real = autotune._run
    default = tuning.probe_config(16)

    def refuse(*arrays):
        raise ValueError("out of registers")

    def run(kernel, work, config, interpret):
        if config != default:
            return refuse
        return real(kernel, work, config, interpret)

    monkeypatch.setattr(autotune, "_run", run)
    assert list(autotune.tune(KERNELS["probe"], SMALL, lambda call: 1.0, interpret=True)[1]) == [default]


def test_neighbours_are_powers_of_two_around_the_default():
    around = list(autotune.neighbours(PoolConfig(bags=8, unroll=1, num_warps=16)))
    assert around[0] == PoolConfig(8, 1, 16)
    assert len(around) == len(set(around)) == 3 * 2 * 2


def test_findings_come_before_heuristics_and_only_for_their_device(on_a_gpu, monkeypatch):
    heuristic = tuning.pool_config(64)
    assert heuristic != PoolConfig(2, 2, 2)
    findings.write(on_a_gpu, "NVIDIA H200", {"pool": {"64": {"bags": 2, "unroll": 2, "num_warps": 2}}})
    findings.write(on_a_gpu, "NVIDIA H200", {"dedup": {"0": {"keys": 64, "num_warps": 2}}})
    assert tuning.pool_config(64) == PoolConfig(2, 2, 2)
    assert tuning.pool_config(128) != PoolConfig(2, 2, 2)
    assert tuning.dedup_config() == KeyConfig(64, 2)
    assert json.loads(on_a_gpu.read_text())["device"] == "NVIDIA H200"
    monkeypatch.setattr(findings, "device_kind", lambda: None)
    assert tuning.pool_config(64) == heuristic


def test_the_order_of_a_sum_is_never_tuned(on_a_gpu, monkeypatch):
    """Sums over a row's columns follow from the tile: optimizers that take one keep the heuristics on every device."""
    one_row, asked = {"64": {"rows": 1, "num_warps": 1}}, {}
    findings.write(on_a_gpu, "NVIDIA H200", {"row": one_row, "update": one_row})
    module = sys.modules[KERNELS["fused_update"].call.__module__]
    for form in ("adam", "rowwise_adagrad"):
        program = fused_update.program(64, form)
        monkeypatch.setattr(module, "launch", lambda *_, programs, form=form, **__: asked.update({form: programs}))
        program.f(*program.shapes)
    assert asked == {"adam": U, "rowwise_adagrad": U // 16}
    assert tuning.row_config(64).rows == 16
    assert not {"row_dot", "select_rows"} & set(autotune.TUNABLE)


def test_a_file_that_says_nonsense_is_named(on_a_gpu):
    findings.write(on_a_gpu, "NVIDIA H200", {"pool": {"64": {"bags": 3, "unroll": 2, "num_warps": 2}}})
    with pytest.raises(ValueError, match=r"nvidia-h200\.json must give pool at 64 .*power of two"):
        tuning.pool_config(64)


def test_tuning_writes_its_findings(on_a_gpu, monkeypatch):
    monkeypatch.setattr(autotune, "neighbours", lambda config: iter((config,)))
    path = autotune.keep_best(KERNELS["dedup"], "NVIDIA H200", lambda call: 1.0, SMALL, interpret=True)
    assert path == on_a_gpu
    assert json.loads(path.read_text())["findings"]["dedup"] == {"0": {"keys": 1024, "num_warps": 4}}


def test_without_a_gpu_it_says_so(capsys):
    if jax.default_backend() == "gpu":
        pytest.skip("a GPU is here")
    assert autotune.main([]) == 2
    assert "Tuning needs a GPU that JAX can see" in capsys.readouterr().err
