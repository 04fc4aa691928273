"""FSDP2 for a decoder beside tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist

from recis_core.backends.errors import RecisError
from recis_core.models.llm.decoder import blocks_of
from recis_core.models.llm.with_tables import DecoderWithTables


def shard_decoder(model: DecoderWithTables, *, dtype: torch.dtype | None = None, mesh: Any = None) -> DecoderWithTables:
    """fully_shard each block, then the rest of the model; its tables stay as they are, sharded by their own exchange.

    Call it before the optimizer is made, on every rank, and give the Trainer parallel="none": the model is sharded already.

    Args:
      dtype: in which blocks compute, such as torch.bfloat16; shards, gradients' sums and the optimizer stay in the dtype
        of the parameters. None: no cast. Only hidden states inside the decoder are cast: FSDP2 would cast float features of a
        batch, too, so the root has cast_forward_inputs=False.
      mesh: a DeviceMesh; None: all ranks of the tables' process group, the default one.

    Returns:
      The model itself.

    Raises:
      TypeError: model is no DecoderWithTables. RecisError: there is no process group.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    if not isinstance(model, DecoderWithTables):
        raise TypeError(f"model must be a DecoderWithTables; got {type(model).__name__}.")
    if not dist.is_initialized():
        raise RecisError(
            "shard_decoder needs a process group: start the script with torchrun, and call init_process_group() before the "
            "model is made. One process alone needs no sharding."
        )
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=None if dtype is None else torch.float32)
    mesh = _mesh_of(model) if mesh is None else mesh
    for block in blocks_of(model.decoder):
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=replace(policy, cast_forward_inputs=False))
    register_fsdp_forward_method(model, "score")
    return model


def _mesh_of(model: DecoderWithTables) -> Any:
    from torch.distributed.device_mesh import DeviceMesh

    exchange = model.engine.exchange
    group: Any = dist.group.WORLD if exchange is None else exchange.channel.parent
    return DeviceMesh.from_group(group, next(model.parameters()).device.type)
