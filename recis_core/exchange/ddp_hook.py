"""Dense gradients by the codecs of the sparse ones: a DDP communication hook.

    state, hook = compressed_allreduce_hook("int8", error_feedback=True)
    model = DistributedDataParallel(tower)
    model.register_comm_hook(state, hook)

A bucket is cut into as many shards as there are ranks, each of rows of `columns` numbers. Every rank sends each
shard to its owner (all-to-all), the owner adds up what arrived in float32, in rank order, and sends the encoded sum to
all (all-gather): all decode the same bytes, so all ranks hold equal bits. Two buckets are under way at a time.

Sizes: W ranks, R rows of a shard, C columns.
"""

# No annotations from the future here: DDP reads those of a hook, and takes no strings.
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from recis_core.backends import Backend, EncodedRows, RowCodec, RowNoise, select
from recis_core.backends.errors import ExchangeMismatch
from recis_core.channel.channel import digest
from recis_core.options.precision import Codec, Direction

FLAG = 1  # byte before a message: whether some row of it is not finite


def compressed_allreduce_hook(
    codec: str | RowCodec = "bf16",
    error_feedback: bool = False,
    *,
    columns: int = 256,
    seed: int = 0,
    process_group: dist.ProcessGroup | None = None,
    backend: str | None = None,
) -> "tuple[CompressedAllReduce, Any]":
    """(state, hook) for DistributedDataParallel.register_comm_hook: gradients averaged over ranks.

    A gradient that holds NaN or inf on any rank, or whose sum overflows, sends its bucket uncompressed and
    without what was left over: every rank sees it where it is, and a step that a GradScaler skips loses nothing.

    Args:
      codec: a RowCodec, or its text: "bf16", "int8+sr", "int4+ef"; not lossless, whose rows have no fixed length.
      error_feedback: add what a codec lost to the next gradient, at the sender and at the owner. Kept in memory
        alone, float32 as large as the gradients.
      columns: of a row, which has one scale.
      seed: of stochastic rounding.
      process_group: the one DDP was given.
      backend: "torch", "numba", "jax" or "pallas"; None is RECIS_BACKEND.

    Raises:
      ValueError: the codec is none that serves here, or columns < 1.

    DoubleSqueeze: Tang et al. 2019, arXiv:1905.05957.
    """
    row, feedback = _chosen(codec)
    if columns < 1:
        raise ValueError(f"columns must be at least 1; got {columns}.")
    state = CompressedAllReduce(row, error_feedback or feedback, columns, seed, process_group, select(backend))
    return state, run_hook


def _chosen(codec: str | RowCodec) -> tuple[RowCodec, bool]:
    choice = Codec(codec) if isinstance(codec, RowCodec) else Direction.parse(codec).pieces[0].choice
    if not isinstance(choice, Codec) or choice.top is not None or choice.row.kind == "lossless":
        raise ValueError(f"codec must be one of fixed size for all rows, as bf16, int8 or int4+ef; got {codec!r}.")
    return choice.row, choice.error_feedback


@dataclass
class Pending:
    """A bucket whose shards are on their way to their owners."""

    bucket: Tensor
    sent: EncodedRows
    received: Tensor  # uint8 [W, FLAG + R · row_bytes]
    work: Any
    parameters: list[Tensor]
    keys: RowNoise | None
    future: torch.futures.Future[Tensor]


@dataclass
class CompressedAllReduce:
    """The hook's state: the residual of each bucket, and the bucket that is under way."""

    row: RowCodec
    error_feedback: bool
    columns: int
    seed: int
    group: dist.ProcessGroup | None
    backend: Backend
    steps: int = 0
    agreed: bool = False  # whether all ranks encode alike
    pending: Pending | None = None
    left: dict[Tensor, Tensor] = field(default_factory=dict)  # by parameter, for DDP regroups them after a step

    @property
    def rank(self) -> int:
        return dist.get_rank(self.group)

    @property
    def world_size(self) -> int:
        return dist.get_world_size(self.group)

    def rows(self, flat: Tensor) -> Tensor:
        """[W · R, C], zeros behind."""
        lines = -(-flat.numel() // (self.columns * self.world_size)) * self.world_size
        return torch.nn.functional.pad(flat, (0, lines * self.columns - flat.numel())).view(lines, self.columns)

    def residual(self, parameters: list[Tensor], like: Tensor) -> Tensor | None:
        if not self.error_feedback:
            return None
        parts = [
            self.left[p] if p in self.left else torch.zeros_like(p, dtype=torch.float32).view(-1) for p in parameters
        ]
        return self.rows(torch.cat(parts)).to(like.device)

    def keep(self, parameters: list[Tensor], left: Tensor | None) -> None:
        if left is None:
            return
        parts = left.view(-1)[: sum(p.numel() for p in parameters)].split([p.numel() for p in parameters])
        self.left |= dict(zip(parameters, parts, strict=True))

    def noise(self, bucket: int, rows: int, device: torch.device) -> RowNoise | None:
        """Other words on each rank; for the sum, of which there is one, see summed."""
        if not self.row.stochastic:
            return None
        ids = torch.arange(rows, device=device) + (self.rank << 40)
        return RowNoise(self.seed, torch.full_like(ids, bucket), ids, self.steps & 0x7FFFFFFF)


def run_hook(state: CompressedAllReduce, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """Start this bucket's way to the owners; then finish the bucket before, which has arrived meanwhile.

    Every rank's DDP calls in one order, so collectives start in one order.
    """
    buffer = bucket.buffer()
    if state.world_size == 1:
        return _done(buffer)
    if not state.agreed:
        _agree(state, buffer.device)
    started = _start(state, bucket)
    if state.pending is not None:
        _finish(state, state.pending)
    state.pending = started
    if bucket.is_last():
        _finish(state, started)
        state.pending, state.steps = None, state.steps + 1
    return started.future


def _agree(state: CompressedAllReduce, device: torch.device) -> None:
    """Once, before the first bucket: other codecs or columns would make messages of other lengths."""
    mine = torch.tensor([digest((state.row, state.error_feedback, state.columns))], device=device)
    all_ranks = [torch.empty_like(mine) for _ in range(state.world_size)]
    dist.all_gather(all_ranks, mine, group=state.group)
    others = [p for p, theirs in enumerate(all_ranks) if int(theirs) != int(mine)]
    if others:
        raise ExchangeMismatch(
            f"rank(s) {others} compress dense gradients otherwise than rank {state.rank}, which has codec {state.row}, "
            f"error_feedback={state.error_feedback}, columns={state.columns}. Every rank must call "
            "compressed_allreduce_hook with the same arguments."
        )
    state.agreed = True


def _future(buffer: Tensor) -> torch.futures.Future[Tensor]:
    return torch.futures.Future(devices=[buffer.device] if buffer.is_cuda else None)


def _done(buffer: Tensor) -> torch.futures.Future[Tensor]:
    future = _future(buffer)
    future.set_result(buffer)
    return future


def _start(state: CompressedAllReduce, bucket: dist.GradBucket) -> Pending:
    buffer, parameters = bucket.buffer(), list(bucket.parameters())
    values = state.rows(buffer.float())
    keys = state.noise(bucket.index(), len(values), buffer.device)
    sent = state.backend.encode(values, state.residual(parameters, values), codec=state.row, noise=keys)
    messages = _flagged(sent, state.world_size)
    received = torch.empty_like(messages)
    work = dist.all_to_all_single(received, messages, group=state.group, async_op=True)
    return Pending(buffer, sent, received, work, parameters, keys, _future(buffer))


def _flagged(sent: EncodedRows, shards: int) -> Tensor:
    """uint8 [shards, FLAG + bytes of a shard's rows]; the flag: whether some row, of all shards, is not finite."""
    flag = sent.codes.new_full((shards, FLAG), len(sent.exact) > 0)
    return torch.cat([flag, sent.codes.view(shards, -1)], 1)


def _finish(state: CompressedAllReduce, pending: Pending) -> None:
    pending.work.wait()
    mean = None if pending.received[:, 0].any() else _averaged(state, pending)
    if mean is None:  # on every rank alike
        mean = _uncompressed(state, pending.bucket)
    pending.bucket.copy_(mean.view(-1)[: pending.bucket.numel()])
    pending.future.set_result(pending.bucket)


def _averaged(state: CompressedAllReduce, pending: Pending) -> Tensor | None:
    """The mean of what all sent [W · R, C]; None where a sum is not finite."""
    total = _summed(_decoded(state, pending.received).view(state.world_size, -1, state.columns))
    left = None if pending.sent.left is None else torch.zeros_like(total)
    sent = state.backend.encode(total, left, codec=state.row, noise=_own(state, pending.keys, len(total)))
    gathered = _gathered(state, _flagged(sent, 1))
    if gathered[:, 0].any():
        return None
    left = pending.sent.left
    if left is not None and sent.left is not None:  # the owner adds what the sum's codes lost to its own shard
        mine = slice(state.rank * len(total), (state.rank + 1) * len(total))
        left = left.clone()
        left[mine] += sent.left
    state.keep(pending.parameters, left)
    return _decoded(state, gathered) / state.world_size


def _own(state: CompressedAllReduce, keys: RowNoise | None, rows: int) -> RowNoise | None:
    """The keys of the sum's rows: this rank's own, apart from those of what it sent."""
    if keys is None:
        return None
    ids = keys.ids[:rows] + (1 << 39)
    return RowNoise(keys.seed, keys.uids[:rows], ids, keys.t)


def _decoded(state: CompressedAllReduce, messages: Tensor) -> Tensor:
    codes = messages[:, FLAG:].reshape(-1, state.row.row_bytes(state.columns))
    return state.backend.decode(codes, codec=state.row, dim=state.columns)


def _summed(shards: Tensor) -> Tensor:
    """[R, C] of [W, R, C], in rank order."""
    total = shards[0].clone()
    for shard in shards[1:]:
        total += shard
    return total


def _gathered(state: CompressedAllReduce, message: Tensor) -> Tensor:
    parts = [torch.empty_like(message) for _ in range(state.world_size)]
    dist.all_gather(parts, message.contiguous(), group=state.group)
    return torch.cat(parts)


def _uncompressed(state: CompressedAllReduce, bucket: Tensor) -> Tensor:
    """The mean by the same road in float32: bits equal on all ranks, NaN and inf where they are."""
    mine = state.rows(bucket.float())
    received = torch.empty_like(mine)
    dist.all_to_all_single(received, mine, group=state.group)
    total = _summed(received.view(state.world_size, -1, state.columns))
    return _gathered(state, total) / state.world_size
