"""Lowering for CUDA on any machine, and the search for float atomics in what comes of it."""

from __future__ import annotations

import contextlib
import re

import jax

from recis_core.pallas_kernels.kernel import Program

SCATTER = re.compile(r"stablehlo\.scatter.*?\^bb0\((?P<updates>.*?)\):(?P<body>.*?)stablehlo\.return", re.DOTALL)
FLOAT = re.compile(r"tensor<b?f\d+")
ATOMIC = re.compile(r"\b(?:atom|red)\.[a-z0-9.]+")
INTEGER = re.compile(r"\.(?:add|min|max|or|exch)\.[bsu](?:32|64)$")  # XLA's, and in no order that matters
SUMS = re.compile(r"stablehlo\.(add|multiply|maximum|minimum)")


def a_described_gpu():
    """jax 0.11 asks for the device a kernel is lowered for; 0.10 does not need it."""
    if not all(hasattr(jax.sharding, name) for name in ("AbstractDevice", "use_abstract_mesh")):
        return contextlib.nullcontext()
    device = jax.sharding.AbstractDevice(device_kind="NVIDIA H200", num_cores=132, platform="gpu")
    return jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), (), abstract_device=device))


def lowered(program: Program) -> str:
    with a_described_gpu():
        jitted = jax.jit(program.f, donate_argnums=program.donated)
        return jitted.trace(*program.shapes).lower(lowering_platforms=("cuda",)).as_text()


def check_no_float_atomics(text: str) -> None:
    """Triton's atomics stand by name in a kernel's bytecode; XLA makes them from scatters with a float sum."""
    if "atomic" in text:
        raise AssertionError("a kernel holds an atomic operation")
    if any(FLOAT.search(scatter["updates"]) and SUMS.search(scatter["body"]) for scatter in SCATTER.finditer(text)):
        raise AssertionError("XLA would sum a float scatter by atomics")


def check(program: Program) -> str:
    text = lowered(program)
    if "triton" not in text:
        raise AssertionError("no kernel was lowered by Triton")
    check_no_float_atomics(text)
    return text


def check_ptx(ptx: str) -> None:
    """The same of machine code, ours and XLA's."""
    for operation in ATOMIC.findall(ptx):
        if not INTEGER.search(operation):
            raise AssertionError(f"an atomic operation on floats: {operation}")
