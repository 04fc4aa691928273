"""Causal attention over packed sequences: memory grows with the rows given, whatever the longest sequence is.

Sizes: T rows of all sequences, B sequences, H heads, D dim of a head, Dv dim of values.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recis_core.models.block_attention import GroupGradients, GroupScores, Settings, silu_outputs, softmax_outputs
from recis_core.models.jagged_blocks import JaggedBlocks
from recis_core.models.relative_bias import BiasSums, RelativeBias

KINDS = ("softmax", "silu")


def jagged_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    offsets: Tensor | JaggedBlocks,
    *,
    kind: str = "softmax",
    bias: RelativeBias | None = None,
    scale: float | None = None,
    divisor: float = 1.0,
    max_attention: int | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Attention of each row to itself and to the rows before it in its sequence.

    score(i, j) = scale · <q_i, k_j> + bias(i, j)                    j ≤ i in one sequence, i − j < max_attention
    "softmax"     out_i = Σ_j exp(score(i, j)) · v_j / Σ_j exp(score(i, j))
    "silu"        out_i = Σ_j silu(score(i, j)) · v_j / divisor

        values   a b | c | | d e f        offsets 0 2 3 3 6        f sees d, e and f

    Works on pairs of blocks of at most 64 rows, batched over sequences, and works scores out again in backward: memory is
    O(T·H·D), and time O(Σ length²), or O(T · max_attention). A sequence's output does not depend on the others.

    Args:
      q, k: [T, H, D]. v: [T, H, Dv]. float64, float32, bfloat16 or float16; scores and sums are float32, or float64.
      offsets: int64 [B + 1] from 0 to T, or JaggedBlocks.of(offsets), made once for several layers.
      kind: "softmax" or "silu".
      bias: what is added to scores, or None.
      scale: None is 1/sqrt(D). divisor: of "silu" alone; a constant, so that neighbours do not matter.
      max_attention: how many rows each row sees, itself among them. None: all.
      dropout: the share of weights that are dropped, 0 in eval; the others are scaled up. Drawn from torch's seed.

    Returns:
      [T, H, Dv] in q's dtype. The same bits on every run.

    Raises:
      TypeError: q, k and v are no floating tensors of one dtype. ValueError: shapes do not fit, or an argument is out of
        range. RuntimeError: at a second derivative, which is not there.

    SASRec, Kang and McAuley 2018, arXiv:1808.09781; HSTU, Zhai et al. 2024, arXiv:2402.17152. By blocks: FlashAttention, Dao
    et al. 2022, arXiv:2205.14135.
    """
    _check(q, k, v, kind, max_attention, dropout, divisor)
    blocks = offsets if isinstance(offsets, JaggedBlocks) else JaggedBlocks.of(offsets)
    bias = RelativeBias() if bias is None else bias
    if blocks.rows != len(q):
        raise ValueError(f"offsets must end at the rows of q = {len(q)}; got {blocks.rows}.")
    if bias.time is not None and (bias.timestamps is None or bias.timestamps.shape != q.shape[:1]):
        raise ValueError(f"a bias of times needs timestamps [{len(q)}], one for each row of q.")
    seed = int(torch.randint(1 << 62, ())) if dropout else 0
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    settings = Settings(kind, scale, divisor, max_attention, dropout, seed)
    out: Tensor = _JaggedAttention.apply(q, k, v, bias.position, bias.time, bias.timestamps, blocks, settings)
    return out


def _check(
    q: Tensor, k: Tensor, v: Tensor, kind: str, max_attention: int | None, dropout: float, divisor: float
) -> None:
    if not q.is_floating_point() or not q.dtype == k.dtype == v.dtype:
        raise TypeError(f"q, k and v must be floating tensors of one dtype; got {q.dtype}, {k.dtype} and {v.dtype}.")
    if q.dim() != 3 or k.shape != q.shape or v.shape[:2] != q.shape[:2] or v.dim() != 3:
        shapes = ", ".join(str(list(x.shape)) for x in (q, k, v))
        raise ValueError(f"q and k must be [T, H, D], and v [T, H, Dv]; got {shapes}.")
    if kind not in KINDS:
        raise ValueError(f"kind must be 'softmax' or 'silu'; got {kind!r}.")
    if max_attention is not None and max_attention < 1:
        raise ValueError(
            f"max_attention must be at least 1, the row itself, or None for all rows; got {max_attention}."
        )
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be from 0 to below 1; got {dropout}.")
    if not divisor > 0:
        raise ValueError(f"divisor must be above 0; got {divisor}.")


class _JaggedAttention(torch.autograd.Function):
    """Keeps its inputs, for "softmax" its outputs and one number a row and head; scores are worked out again."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, position: Tensor | None, time: Tensor | None,
        timestamps: Tensor | None, blocks: JaggedBlocks, settings: Settings,
    ) -> Tensor:  # fmt: skip
        out = torch.zeros_like(v)
        norms = None if settings.kind == "silu" else out.new_zeros(q.shape[:2], dtype=_dtype_of_sums(q))
        bias, generator = RelativeBias(position, time, timestamps), settings.generator(q.device)
        with torch.autocast(q.device.type, enabled=False):
            for group in blocks.groups:
                scores = GroupScores(group, q, k, v, bias, settings)
                if norms is None:
                    group.paste(silu_outputs(scores, generator), out)
                else:
                    found, of_rows = softmax_outputs(scores, generator)
                    group.paste(found, out)
                    group.paste(of_rows, norms)
        ctx.save_for_backward(q, k, v, position, time, timestamps, None if norms is None else out, norms)
        ctx.blocks, ctx.settings = blocks, settings
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, position, time, timestamps, out, norms = ctx.saved_tensors
        bias, generator = RelativeBias(position, time, timestamps), ctx.settings.generator(q.device)
        sums, gradients = BiasSums(bias, _dtype_of_sums(q)), [torch.zeros_like(x) for x in (q, k, v)]
        with torch.autocast(q.device.type, enabled=False):
            for group in ctx.blocks.groups:
                scores = GroupScores(group, q, k, v, bias, ctx.settings)
                of_softmax = None if out is None else (group.cut(out), group.cut(norms))
                found = GroupGradients(scores, group.cut(given), of_softmax, sums)
                found.add_all(generator)
                for packed, blocks in zip(gradients, (found.q, found.k, found.v), strict=True):
                    group.paste(blocks, packed)
        return *gradients, *sums.as_gradients(bias), None, None, None


def _dtype_of_sums(q: Tensor) -> torch.dtype:
    return torch.promote_types(q.dtype, torch.float32)
