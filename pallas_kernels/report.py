"""The catalog as a list, and whether each kernel compiles for an H200 here."""

from __future__ import annotations

from typing import Any

from recis_core.pallas_kernels import aot
from recis_core.pallas_kernels.kernel import Kernel

DIMS = (16, 64, 128, 256)  # whose configs are shown


def describe(kernel: Kernel, everything: bool) -> dict[str, Any]:
    """A kernel as plain data. everything: compile each of its programs, not the first, the middle and the last."""
    compiled, reason, tried = compile_some(kernel, everything)
    return {
        "name": kernel.name,
        "lowerings": list(kernel.lowerings),
        "dtypes": list(kernel.dtypes),
        "configs": {str(dim): str(kernel.configs(dim)) for dim in DIMS},
        "bytes": kernel.moves,
        "compiled": compiled,
        "reason": reason,
        "programs": tried,
    }


def compile_some(kernel: Kernel, everything: bool) -> tuple[bool | str, str, int]:
    """(true, false or "toolchain missing"; why; how many programs were tried)."""
    programs = kernel.programs()
    few = sorted({0, len(programs) // 2, len(programs) - 1})
    chosen = programs if everything else tuple(programs[i] for i in few)
    for number, program in enumerate(chosen):
        try:
            aot.compile_for_h200(program.f, *program.shapes, donate_argnums=program.donated)
        except aot.ToolchainMissing as missing:
            return "toolchain missing", str(missing), number
        except Exception as error:  # whatever a compiler says: it is what was asked for
            return False, f"{program.label}: {type(error).__name__}: {error}", number + 1
    return True, f"{len(chosen)} of {len(programs)} programs compiled for sm_90a", len(chosen)


def lines(found: list[dict[str, Any]]) -> list[str]:
    """For people."""
    out = []
    for kernel in found:
        out.append(f"{kernel['name']}  ({', '.join(kernel['lowerings'])})")
        out.append(f"  dtypes    {', '.join(kernel['dtypes'])}")
        out.append(f"  bytes     {kernel['bytes']}")
        out += [f"  dim {dim:<5} {config}" for dim, config in _merged(kernel["configs"]).items()]
        out.append(f"  compiled  {str(kernel['compiled']).lower()}: {kernel['reason']}")
    return out


def _merged(configs: dict[str, str]) -> dict[str, str]:
    """One line where all dims have the same config."""
    return configs if len(set(configs.values())) > 1 else {"any": next(iter(configs.values()))}
