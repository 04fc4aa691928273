"""How a state is sharded, and functions of one shard run on all.

Sizes: G shards, N ids.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from recis_core.backends.jax_backend.ladder import FLOOR


@dataclass(frozen=True)
class Layout:
    """Shards along one axis of a mesh; along its other axes they are repeated."""

    mesh: Mesh
    axis: str
    slack: float

    @classmethod
    def of(cls, mesh: Mesh, axis: str | None, slack: float) -> Layout:
        if not isinstance(mesh, Mesh):
            raise TypeError(f"mesh must be a jax.sharding.Mesh; got {type(mesh).__name__}. jax.make_mesh makes one.")
        if axis is None and len(mesh.axis_names) == 1:
            axis = mesh.axis_names[0]
        if axis is None or axis not in mesh.axis_names:
            raise ValueError(f"axis must be one of the mesh's, {', '.join(mesh.axis_names)}; got {axis!r}.")
        if len(mesh.axis_names) > 1 and mesh.size != mesh.shape[axis]:
            raise ValueError(
                f"the mesh must have one axis of more than one device; got {dict(mesh.shape)}. Shard tables over a mesh "
                "of their own with the same devices."
            )
        if not slack >= 1:
            raise ValueError(f"slack must be at least 1; got {slack}.")
        if mesh.size > len(mesh.local_devices):
            raise ValueError(
                f"all devices of the mesh must be of this process; {mesh.size - len(mesh.local_devices)} are not."
            )
        return cls(mesh, axis, float(slack))

    @property
    def size(self) -> int:
        """G."""
        return int(self.mesh.shape[self.axis])

    @property
    def devices(self) -> list[jax.Device]:
        return list(self.mesh.devices.flat)

    def bucket(self, ids: int) -> int:
        """Ids that a shard may send to one owner, of a batch of `ids` a shard."""
        return min(ids, max(FLOOR, int(np.ceil(ids / self.size * self.slack))))


def on_shards(
    layout: Layout | None, f: Callable[..., tuple[Any, Any]], own: Any, batch: Any, shared: Any = ()
) -> tuple[Any, Any]:
    """f(own, batch, shared) -> (own, batch), on each shard's part.

    own: trees of a leading axis of shards, which f does not see. batch: trees whose leading axis is cut over the shards.
    shared: trees that every shard gets whole. Without a layout f is called as it is.
    """
    if layout is None:
        return f(own, batch, shared)

    def local(own: Any, batch: Any, shared: Any) -> tuple[Any, Any]:
        own, batch = f(jax.tree.map(lambda x: x[0], own), batch, shared)
        return jax.tree.map(lambda x: x[None], own), batch

    cut, whole = PartitionSpec(layout.axis), PartitionSpec()
    run = jax.shard_map(local, mesh=layout.mesh, in_specs=(cut, cut, whole), out_specs=(cut, cut), check_vma=False)
    return run(own, _resharded(layout, batch, cut), _resharded(layout, shared, whole))


def _resharded(layout: Layout, tree: Any, spec: PartitionSpec) -> Any:
    """The tree as shard_map wants it of a mesh whose shardings are part of types; else XLA's partitioner sees to it."""
    if AxisType.Explicit not in layout.mesh.axis_types:
        return tree
    sharding = NamedSharding(layout.mesh, spec)
    return jax.tree.map(lambda x: jax.reshard(jnp.asarray(x), sharding), tree)


def stacked(shards: list[Any], layout: Layout) -> Any:
    """One tree of a tree for each device, which must lie there."""

    def join(*parts: jax.Array) -> jax.Array:
        shape = (len(parts), *parts[0].shape)
        # In types a sharding names each axis, and jit takes the short form for another one.
        others = [None] * parts[0].ndim if AxisType.Explicit in layout.mesh.axis_types else []
        sharding = NamedSharding(layout.mesh, PartitionSpec(layout.axis, *others))
        return jax.make_array_from_single_device_arrays(shape, sharding, [x[None] for x in parts])

    return jax.tree.map(join, *shards)


def unstacked(tree: Any, layout: Layout) -> list[Any]:
    """The parts of each device."""

    def part(x: jax.Array, device: jax.Device) -> jax.Array:
        return next(s.data for s in x.addressable_shards if s.device == device)[0]

    return [jax.tree.map(lambda x, d=device: part(x, d), tree) for device in layout.devices]
