"""Compile a JAX program for an H200 on a machine without a GPU: shows that kernels compile and update in place.

Needs jax-cuda13-plugin and jax-cuda13-pjrt of jax's own version, and ptxas (CUDA toolkit, or pip's nvidia-cuda-nvcc
with XLA_FLAGS=--xla_gpu_cuda_data_dir=…); no driver. jax 0.10: on 0.11 use a machine with a GPU, or lower only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

H200 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
  shared_memory_per_core: 233472 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 4800000000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98 device_memory_size: 150000000000
  shared_memory_per_block_optin: 232448 cuda_compute_capability { major: 9 minor: 0 }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 12 }
device_description_str: "NVIDIA H200"
"""

# Against the environment: with JAX_DISABLE_MOST_OPTIMIZATIONS, which tests set, machine code differs.
AS_USERS_RUN: dict[str, Any] = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}
TOOLKIT = Path("/usr/local/cuda/bin/ptxas")  # where NVIDIA's installer puts it


class ToolchainMissing(RuntimeError):
    """This machine cannot compile for CUDA; the message says what is absent."""


@dataclass(frozen=True)
class Program:
    """A compiled program: optimized HLO, PTX by module, the launches, bytes aliased and in temporaries, seconds."""

    text: str
    modules: tuple[str, ...]
    thunks: str
    alias_bytes: int
    temp_bytes: int
    seconds: float

    @property
    def ptx(self) -> str:
        return "\n".join(self.modules)


def compile_for_h200(f: Callable[..., Any], *shapes: Any, donate_argnums: tuple[int, ...] = ()) -> Program:
    """Compile f for sm_90a at these jax.ShapeDtypeStruct arguments (pytrees of them).

    An update is in place if alias_bytes equals the donated arrays' bytes and the text holds no copy of them.

    Raises:
      ToolchainMissing: the CUDA plugin or ptxas is not installed.
    """
    sharding = h200()
    placed = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=sharding), shapes)
    lowered = jax.jit(f, out_shardings=sharding, donate_argnums=donate_argnums).lower(*placed)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        compiled = lowered.compile(compiler_options={"xla_dump_to": folder, **AS_USERS_RUN})
        seconds = time.perf_counter() - began
        modules = tuple(path.read_text() for path in sorted(Path(folder).glob("*.ptx")))
        thunks = "\n".join(path.read_text() for path in sorted(Path(folder).glob("*thunk_sequence.txt")))
    memory, text = compiled.memory_analysis(), compiled.as_text()
    if memory is None or text is None:
        raise ToolchainMissing(f"the CUDA compiler of jax {jax.__version__} describes no memory or no program.")
    return Program(text, modules, thunks, memory.alias_size_in_bytes, memory.temp_size_in_bytes, seconds)


@cache
def h200() -> NamedSharding:
    """A sharding on an H200 that only its description stands for."""
    if find_spec("jax_cuda13_plugin") is None:
        raise ToolchainMissing(
            f"compiling for CUDA needs jax-cuda13-plugin and jax-cuda13-pjrt {jax.__version__}; pip install them."
        )
    ptxas()
    try:
        topology = _topology()
    except (RuntimeError, NotImplementedError) as error:
        raise ToolchainMissing(f"the CUDA plugin gave no H200 topology: {error}") from error
    return NamedSharding(Mesh([topology.devices[0]], ("x",)), PartitionSpec())


def _topology() -> topologies.TopologyDescription:
    os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")
    describe = partial(topologies.get_topology_desc, platform="cuda", topology="1x1x1", target_config=H200)
    with contextlib.suppress(RuntimeError):  # makes jax know the platform; without a GPU it fails to start
        jax.devices("cuda")
    try:
        return describe()
    except NotImplementedError:  # jax had started before, and its plugin had given up for want of a driver
        import_module("jax_plugins.xla_cuda13").initialize()
        return describe()


@cache
def ptxas() -> str:
    """Its path: on PATH, in the CUDA toolkit, or of pip's nvidia-cuda-nvcc.

    Raises:
      ToolchainMissing: there is none.
    """
    places = [shutil.which("ptxas"), str(TOOLKIT) if TOOLKIT.exists() else None]
    spec = find_spec("nvidia")
    for folder in spec.submodule_search_locations or () if spec else ():
        places += [str(path) for path in sorted(Path(folder).glob("**/bin/ptxas"))]
    for place in places:
        if place:
            return place
    raise ToolchainMissing("ptxas is neither on PATH nor in a CUDA toolkit; pip install nvidia-cuda-nvcc.")
