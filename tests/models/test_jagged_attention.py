"""Attention over packed sequences: the dense formula's values and gradients, whatever the other sequences are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from recis_core.models import JaggedBlocks, RelativeBias, jagged_attention
from tests.models.dense_attention import dense_attention

LENGTHS = [3, 0, 1, 130, 17, 64, 65, 0, 40]
KINDS = ["softmax", "silu"]
DIVISOR = {"softmax": 1.0, "silu": 3.0}


def offsets_of(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0)


def drawn(lengths: list[int], dtype: torch.dtype = torch.float64, dims: tuple[int, int] = (4, 3)) -> list[Tensor]:
    """q, k, v with 2 heads, biases of distances and of times."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(sum(lengths), 2, dim, dtype=dtype) for dim in (dims[0], *dims))
    return [x.requires_grad_() for x in (q, k, v, torch.randn(50, dtype=dtype), torch.randn(20, dtype=dtype))]


def times_of(lengths: list[int]) -> Tensor:
    return torch.randint(0, 2000, (sum(lengths),), generator=torch.Generator().manual_seed(1))


def ours(given: list[Tensor], lengths: list[int], kind: str, **settings: Any) -> Tensor:
    q, k, v, position, time = given
    bias = RelativeBias(position, time, times_of(lengths))
    return jagged_attention(q, k, v, offsets_of(lengths), kind=kind, bias=bias, divisor=DIVISOR[kind], **settings)


@pytest.mark.parametrize("window", [None, 1, 5, 64, 70])
@pytest.mark.parametrize("kind", KINDS)
def test_is_its_formula(kind: str, window: int | None) -> None:
    given = drawn(LENGTHS)
    found = ours(given, LENGTHS, kind, max_attention=window)
    bias = RelativeBias(given[3], given[4], times_of(LENGTHS))
    wanted = dense_attention(*given[:3], LENGTHS, kind, bias, window, DIVISOR[kind])
    torch.testing.assert_close(found, wanted)
    grad = torch.randn_like(found)
    for mine, dense in zip(*(torch.autograd.grad(out, given, grad) for out in (found, wanted)), strict=True):
        torch.testing.assert_close(mine, dense)


def test_the_formula_tells_windows_kinds_and_biases_apart() -> None:
    given, none = drawn(LENGTHS), RelativeBias()
    found = ours(given, LENGTHS, "silu", max_attention=64)
    bias = RelativeBias(given[3], given[4], times_of(LENGTHS))
    for kind, other, window in (("softmax", bias, 64), ("silu", none, 64), ("silu", bias, 63)):
        wanted = dense_attention(*given[:3], LENGTHS, kind, other, window, DIVISOR["silu"])
        with pytest.raises(AssertionError):
            torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck(kind: str, dropout: float) -> None:
    """With dropout, too: backward drops what forward dropped."""
    lengths = [3, 0, 1, 9]

    def function(*given: Tensor) -> Tensor:
        torch.manual_seed(3)
        return ours(list(given), lengths, kind, dropout=dropout, max_attention=7)

    assert torch.autograd.gradcheck(function, drawn(lengths, dims=(2, 2)), fast_mode=True)


@pytest.mark.parametrize("kind", KINDS)
def test_other_sequences_change_no_bit(kind: str) -> None:
    given, start = drawn(LENGTHS, torch.float32), 0
    together, times = ours(given, LENGTHS, kind), times_of(LENGTHS)
    for length in LENGTHS:
        rows = slice(start, start + length)
        q, k, v = (x[rows] for x in given[:3])
        bias = RelativeBias(given[3], given[4], times[rows])
        alone = jagged_attention(q, k, v, offsets_of([length]), kind=kind, bias=bias, divisor=DIVISOR[kind])
        assert torch.equal(alone, together[rows])
        start += length


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bits_on_every_run(kind: str) -> None:
    def run() -> list[Tensor]:
        given = drawn(LENGTHS, torch.float32)
        out = ours(given, LENGTHS, kind, dropout=0.2)
        return [out, *torch.autograd.grad(out.square().sum(), given)]

    first, second = run(), run()
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_dropout_drops_its_share_and_scales_up() -> None:
    """Values are one-hot, so that outputs are the weights."""
    torch.manual_seed(0)
    q = k = torch.zeros(64, 1, 64)
    weights = jagged_attention(q, k, torch.eye(64)[:, None], offsets_of([64]), dropout=0.25)[:, 0]
    plain = jagged_attention(q, k, torch.eye(64)[:, None], offsets_of([64]))[:, 0]
    seen = plain > 0
    assert torch.equal(seen, torch.ones(64, 64).tril().bool())
    assert ((weights == 0) & seen).sum() / seen.sum() == pytest.approx(0.25, abs=0.03)
    kept = weights != 0
    torch.testing.assert_close(weights[kept], plain[kept] / 0.75)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_under_autocast(kind: str) -> None:
    given = drawn(LENGTHS, torch.float32)
    wanted = ours(given, LENGTHS, kind)
    half = [x.detach().bfloat16().requires_grad_() for x in given[:3]]
    with torch.autocast("cpu", torch.bfloat16):
        found = ours([*half, *given[3:]], LENGTHS, kind)
        found.float().square().sum().backward()
    assert found.dtype == torch.bfloat16
    assert half[0].grad is not None
    assert half[0].grad.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, rtol=3e-2, atol=3e-2 * wanted.abs().max().item())
    by_full = torch.autograd.grad(wanted.square().sum(), given[:3])
    for mine, full in zip(half, by_full, strict=True):
        assert mine.grad is not None
        torch.testing.assert_close(mine.grad.float(), full, rtol=0, atol=3e-2 * full.abs().max().item())


@pytest.mark.parametrize("kind", KINDS)
def test_what_waits_for_backward_grows_with_the_rows(kind: str) -> None:
    """Not with their square: one sequence of 2,000 keeps what 40 of 50 keep."""

    def kept(lengths: list[int]) -> int:
        sizes: list[int] = []
        pack = torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.nbytes) or x, lambda x: x)
        with pack:
            ours(drawn(lengths, torch.float32), lengths, kind)
        return sum(sizes)

    assert kept([2000]) == kept([50] * 40) < 5 * 4 * 2000 * 2 * 4


def test_no_rows_at_all() -> None:
    for lengths in ([], [0, 0]):
        q = torch.zeros(0, 2, 4, requires_grad=True)
        out = jagged_attention(q, q, q, offsets_of(lengths))
        out.sum().backward()
        assert out.shape == (0, 2, 4)
        assert q.grad is not None


def test_blocks_made_once_serve_several_calls() -> None:
    given, blocks = drawn(LENGTHS), JaggedBlocks.of(offsets_of(LENGTHS))
    assert (blocks.rows, blocks.longest) == (sum(LENGTHS), 130)
    assert torch.equal(jagged_attention(*given[:3], blocks), jagged_attention(*given[:3], offsets_of(LENGTHS)))
    laid_out = sum(group.blocks * group.size for group in blocks.groups)
    assert laid_out < 2 * sum(LENGTHS)


def test_refusals() -> None:
    q, offsets = torch.zeros(5, 2, 4), offsets_of([3, 2])
    with pytest.raises(TypeError, match="floating tensors of one dtype; got torch.float32, torch.float64"):
        jagged_attention(q, q.double(), q, offsets)
    with pytest.raises(TypeError, match="one dtype; got torch.int64"):
        jagged_attention(q.long(), q.long(), q.long(), offsets)
    with pytest.raises(
        ValueError, match=r"q and k must be \[T, H, D\], and v \[T, H, Dv\]; got \[5, 2, 4\], \[4, 2, 4\]"
    ):
        jagged_attention(q, q[:4], q, offsets)
    with pytest.raises(ValueError, match=r"got \[5, 8\]"):
        jagged_attention(q.flatten(1), q.flatten(1), q.flatten(1), offsets)
    with pytest.raises(ValueError, match="offsets must end at the rows of q = 5; got 4"):
        jagged_attention(q, q, q, offsets_of([4]))
    with pytest.raises(ValueError, match="begin at 0 and never decrease"):
        jagged_attention(q, q, q, torch.tensor([0, 6, 5]))
    with pytest.raises(ValueError, match=r"must be \[B \+ 1\]"):
        jagged_attention(q, q, q, offsets[:0])
    with pytest.raises(TypeError, match="offsets must be int64; got torch.int32"):
        jagged_attention(q, q, q, offsets.int())
    with pytest.raises(ValueError, match="kind must be 'softmax' or 'silu'; got 'relu'"):
        jagged_attention(q, q, q, offsets, kind="relu")
    with pytest.raises(ValueError, match="max_attention must be at least 1"):
        jagged_attention(q, q, q, offsets, max_attention=0)
    with pytest.raises(ValueError, match=r"dropout must be from 0 to below 1; got 1\.0"):
        jagged_attention(q, q, q, offsets, dropout=1.0)
    with pytest.raises(ValueError, match="divisor must be above 0"):
        jagged_attention(q, q, q, offsets, kind="silu", divisor=0.0)
    with pytest.raises(ValueError, match=r"needs timestamps \[5\]"):
        jagged_attention(q, q, q, offsets, bias=RelativeBias(time=torch.zeros(3)))
