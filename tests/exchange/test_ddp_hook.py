"""The DDP hook on two gloo processes: near plain DDP, the same bits on all ranks, nothing that is not finite lost."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from recis_core.backends import RowCodec
from recis_core.exchange.ddp_hook import compressed_allreduce_hook

ROOT = Path(__file__).parents[2]
WORLD = 2
TEXTS = ("plain", "fp32", "bf16", "fp16+ef", "fp8+ef", "int8", "int8+sr", "int8+ef", "int4+sr+ef", "sign+ef")


@pytest.fixture(scope="module", params=[pytest.param("torch", marks=pytest.mark.full), "numba"])
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What each rank saved."""
    folder = tmp_path_factory.mktemp("ddp")
    env = {**os.environ, "RECIS_BACKEND": request.param, "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"}
    logs = [folder / f"rank{rank}.log" for rank in range(WORLD)]
    workers = [_start(folder, rank, log, env) for rank, log in enumerate(logs)]
    try:
        codes = [worker.wait(timeout=300) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert codes == [0] * WORLD, "\n".join(log.read_text() for log in logs)
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(WORLD)]


def _start(folder: Path, rank: int, log: Path, env: dict[str, str]) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.exchange.ddp_worker", str(folder), str(rank), str(WORLD), *TEXTS]
    with log.open("w") as said:
        return subprocess.Popen(command, cwd=ROOT, env=env, stdout=said, stderr=said)


def flat(tensors: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([t.reshape(-1) for t in tensors])


@pytest.mark.parametrize("text", TEXTS)
def test_ranks_are_equal_bit_for_bit(runs: list[dict], text: str) -> None:
    for name in ("grads", "parameters"):
        one, other = (flat(run[text][name]) for run in runs)
        assert one.isfinite().all()
        assert torch.equal(one.view(torch.int32), other.view(torch.int32))


def test_fp32_is_plain_ddp(runs: list[dict]) -> None:
    for name in ("grads", "parameters"):
        torch.testing.assert_close(flat(runs[0]["fp32"][name]), flat(runs[0]["plain"][name]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("text", "near"), [("bf16", 0.004), ("fp16+ef", 1e-3), ("int8", 0.02), ("int8+ef", 0.02)])
def test_parameters_stay_near_plain_ones(runs: list[dict], text: str, near: float) -> None:
    """By how far the plain run moved."""
    begin, plain = flat(list(_tower())), flat(runs[0]["plain"]["parameters"])
    moved = (plain - begin).norm()
    off = (flat(runs[0][text]["parameters"]) - plain).norm()
    assert 0 < off <= near * moved


def _tower() -> list[torch.Tensor]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(30, 70), torch.nn.ReLU(), torch.nn.Linear(70, 50), torch.nn.Linear(50, 1)
    )
    return [p.detach() for p in model.parameters()]


@pytest.mark.parametrize("text", TEXTS)
def test_it_trains(runs: list[dict], text: str) -> None:
    """The loss of the same batches falls as with plain DDP, by nine tenths of that at least; signs by half."""
    fall, plain = ([sum(run[t]["losses"][:4]) - sum(run[t]["losses"][-4:]) for run in runs] for t in (text, "plain"))
    assert sum(plain) > 1
    assert sum(fall) > (0.5 if text.startswith("sign") else 0.9) * sum(plain)


def test_what_is_not_finite_reaches_every_rank(runs: list[dict]) -> None:
    for run in runs:
        first, second, third = run["inf"]["grads"]
        assert flat(first).isfinite().all()
        assert flat(third).isfinite().all()
        bias = second[3]
        assert torch.isinf(bias).nonzero().tolist() == [[3]]
        assert torch.isnan(bias).nonzero().tolist() == [[7]]
        assert flat([g for i, g in enumerate(second) if i != 3]).isfinite().all()
    one, other = (flat(run["inf"]["grads"][1]).view(torch.int32) for run in runs)
    assert torch.equal(one, other)


def test_a_step_that_is_not_finite_leaves_the_residual(runs: list[dict]) -> None:
    """Of the bucket that held it: the bias and what travels with it."""
    for run in runs:
        before, at, after = run["inf"]["left"]
        assert before[3].abs().max() > 0
        assert torch.equal(before[3], at[3])
        assert not torch.equal(before[3], after[3])


@pytest.mark.parametrize("codec", ["lossless", "auto(0.1)", "topk(0.1,int8)", RowCodec("lossless")])
def test_codecs_without_a_fixed_size_raise(codec: str | RowCodec) -> None:
    with pytest.raises(ValueError, match="codec must be one of fixed size"):
        compressed_allreduce_hook(codec, backend="torch")


def test_wrong_arguments_raise() -> None:
    with pytest.raises(ValueError, match="a codec is one of"):
        compressed_allreduce_hook("int3", backend="torch")
    with pytest.raises(ValueError, match="columns must be at least 1"):
        compressed_allreduce_hook("int8", columns=0, backend="torch")
