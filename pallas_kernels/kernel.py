"""A catalog row: a kernel's two forms, the bytes it moves, the programs it must compile, a workload to time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np


@dataclass(frozen=True)
class Program:
    """One call at abstract shapes, to be compiled and not run."""

    label: str
    f: Callable[..., Any]
    shapes: tuple[Any, ...]  # pytrees of jax.ShapeDtypeStruct, or None
    donated: tuple[int, ...] = ()

    @property
    def donated_bytes(self) -> int:
        return sum(leaf.size * leaf.dtype.itemsize for i in self.donated for leaf in jax.tree.leaves(self.shapes[i]))


@dataclass(frozen=True)
class Sizes:
    """How large a workload to make; the defaults are a GPU's."""

    ids: int = 1 << 20
    rows: int = 1 << 21
    dim: int = 128
    dtype: str = "float32"


@dataclass(frozen=True)
class Workload:
    """One timed call: kernel.call(*arrays, **options), and the bytes that it must move at least."""

    arrays: tuple[Any, ...]
    bytes: int
    options: dict[str, Any] = field(default_factory=dict)
    donated: tuple[int, ...] = ()
    items: int = 0  # keys or ids worked on, for a rate


@dataclass(frozen=True)
class Kernel:
    """A row of the catalog.

    call: the kernel, which takes `interpret` beside its arguments. reference: the same in plain jnp, without it.
    moves: its bytes as a formula, to print. programs: every config and dtype that the heuristics can choose.
    """

    name: str
    call: Callable[..., Any]
    reference: Callable[..., Any]
    dtypes: tuple[str, ...]
    moves: str
    programs: Callable[[], tuple[Program, ...]]
    workload: Callable[[np.random.Generator, Sizes], Workload]
    configs: Callable[[int], Any]  # the config chosen for a dim
    lowerings: tuple[str, ...] = ("triton",)

    def __post_init__(self) -> None:
        unknown = set(self.lowerings) - {"triton", "mosaic_gpu"}
        if unknown or not self.lowerings or not self.dtypes:
            raise ValueError(f"kernel {self.name!r} needs dtypes and lowerings of triton, mosaic_gpu; got {self}.")


def shape(dtype: str, *sizes: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, np.dtype(jax.numpy.dtype(dtype)))
