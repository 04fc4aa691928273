"""A state's rows on the host, and rows of the host in a state: what moves between JAX, torch and files goes by these.

Sizes: n keys, G shards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import torch

from recis_core.backends import Snapshot
from recis_core.backends.errors import RecisError
from recis_core.backends.jax_backend import export, reports
from recis_core.backends.jax_backend import state as backend
from recis_core.backends.jax_backend.programs import Programs
from recis_core.backends.jax_backend.xla_loops import XLA_LOOPS
from recis_core.exchange.owners import Owners
from recis_core.jax.layout import unstacked
from recis_core.jax.state import Progress, TableState, as_sharded, of_backend, require_at_hand
from recis_core.options.sharding import Sharding
from recis_core.table.content import joined
from recis_core.table.uid import uid

PROGRAMS = Programs(XLA_LOOPS)


def snapshots_of(state: TableState) -> list[Snapshot]:
    """Rows, slots, marks and placement of each shard, on the CPU."""
    return [export.export(PROGRAMS, backend_of(shard)) for shard in shards_of(state)]


def snapshot_of(state: TableState) -> Snapshot:
    """All rows; of several shards without placement."""
    parts = snapshots_of(state)
    if len(parts) == 1:
        return parts[0]
    return joined([replace(part, slot_numbers=None, row_numbers=None) for part in parts])


def shards_of(state: TableState) -> list[TableState]:
    """The state of each device, as one without a layout."""
    require_at_hand(state)
    if state.layout is None:
        return [state]
    return [replace(shard, layout=None) for shard in unstacked(state, state.layout)]


def backend_of(state: TableState) -> backend.TableState:
    """The storage of a state of one device, as stages of jax_backend take it: the same arrays."""
    (device,) = state.weights.devices()
    spec = replace(state.config.spec, device=torch_name(device))
    names = [slot.name for slot in state.config.slots]
    return backend.TableState(
        spec, device, backend.constants_of(spec, device), state.index, state.weights,
        dict(zip(names, state.slots, strict=True)), dict(zip(names, state.config.slots, strict=True)),
        known=int(jax.device_get(state.index.used)),
    )  # fmt: skip


def torch_name(device: jax.Device) -> str:
    """What torch calls the device.

    Raises:
      RecisError: torch and JAX share no memory there.
    """
    if device.platform not in ("cpu", "gpu"):
        raise RecisError(
            f"rows move between JAX and torch on CPUs and CUDA devices; the state is on {device.platform}."
        )
    return "cpu" if device.platform == "cpu" else f"cuda:{device.local_hardware_id}"


def with_snapshots(state: TableState, parts: Sequence[Snapshot], *, placed: bool = False) -> TableState:
    """The state with these rows, by id, a part for each shard; what the state holds of other ids stays.

    placed: whether an empty state takes their placement. The state's arrays are donated.
    """
    bound = state.step.committed
    shards = [_restored(shard, part, placed) for shard, part in zip(shards_of(state), parts, strict=True)]
    if state.layout is None:
        return shards[0] if bound else _unbound(shards[0])
    most = max(shard.buckets for shard in shards)
    shards = [_of_size(shard, most) for shard in shards]
    return as_sharded(shards, state.config, state.layout)


def _restored(state: TableState, part: Snapshot, placed: bool) -> TableState:
    (device,) = state.weights.devices()
    storage = backend_of(jax.device_put(state, _reached(device)) if device != _reached(device) else state)
    before = storage.known
    if not placed:
        part = replace(part, slot_numbers=None, row_numbers=None, free_rows=None)
    export.restore(PROGRAMS, storage, part)
    more = int(jax.device_get(storage.index.used)) - before
    tally = state.tally._replace(inserted=state.tally.inserted + more)
    new = of_backend(storage, Progress(state.step, state.applied, tally), state.config)
    return jax.device_put(new, device) if device != _reached(device) else new


def _reached(device: jax.Device) -> jax.Device:
    """Where torch's tensors come to: of several CPU devices the first."""
    return jax.local_devices(backend="cpu")[0] if device.platform == "cpu" else device


def _unbound(state: TableState) -> TableState:
    """The same by the way of the host: torch's tensors come bound to their device, and jit compiles anew for such arrays."""
    return jax.tree.map(lambda x: jnp.array(np.asarray(x)) if x.committed else x, state)


def _of_size(state: TableState, buckets: int) -> TableState:
    storage = backend_of(state)
    reports.grow(storage, PROGRAMS, buckets)
    return of_backend(storage, Progress(state.step, state.applied, state.tally), state.config)


def parts_by_owner(state: TableState, snapshot: Snapshot) -> list[Snapshot]:
    """The snapshot's rows for each shard of the state."""
    if state.layout is None:
        return [snapshot]
    owner = _owners(state, snapshot)
    return [_cut(snapshot, owner == shard) for shard in range(state.layout.size)]


def _owners(state: TableState, snapshot: Snapshot) -> torch.Tensor:
    names = state.config.names
    owners = Owners([Sharding()] * len(names), [uid(name) for name in names], state.layout.size)  # type: ignore[union-attr]
    return owners.of_ids(snapshot.ids, snapshot.tables)


def _cut(snapshot: Snapshot, mine: torch.Tensor) -> Snapshot:
    slots = {name: values[mine] for name, values in snapshot.slots.items()}
    cut = Snapshot(snapshot.ids[mine], snapshot.tables[mine], snapshot.weights[mine], slots)
    if snapshot.scores is not None and snapshot.stamps is not None:
        cut.scores, cut.stamps = snapshot.scores[mine], snapshot.stamps[mine]
    return cut
