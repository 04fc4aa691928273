"""Registers, spills and shared memory of each kernel on an H200, read from its machine code.

python -m recis_core.pallas_kernels.machine_code --out pallas_kernels/MACHINE_CODE.md
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import jax

from recis_core.pallas_kernels import aot
from recis_core.pallas_kernels.catalog import KERNELS
from recis_core.pallas_kernels.kernel import Kernel, Program

ENTRY = re.compile(
    r"Compiling entry function '(?P<name>\w+)'.*?(?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads"
    r".*?Used (?P<registers>\d+) registers",
    re.DOTALL,
)
LAUNCH = re.compile(r"(?P<name>\w+_kernel\w*) grid: .*?threads: \[(?P<threads>\d+),.*?shared_memory: (?P<shared>\d+)")


@dataclass(frozen=True)
class Entry:
    """One kernel of a program. shared_bytes and threads are None where XLA's launch list does not name it."""

    name: str
    registers: int
    spill_bytes: int
    shared_bytes: int | None
    threads: int | None


@lru_cache(maxsize=1)  # a test that checks them also writes their rows
def entries(made: aot.Program) -> tuple[Entry, ...]:
    """Our kernels in a compiled program, without repetitions.

    Raises:
      aot.ToolchainMissing: there is no ptxas.
    """
    found = [entry for module in made.modules if "_kernel" in module for entry in ENTRY.finditer(_assembled(module))]
    launches = {match["name"]: match for match in LAUNCH.finditer(made.thunks)}
    entries: dict[tuple[str, int, int], Entry] = {}
    for match in found:
        if "_kernel" not in match["name"]:
            continue
        launch = launches.get(match["name"])
        spilled = int(match["stores"]) + int(match["loads"])
        shared, threads = (int(launch["shared"]), int(launch["threads"])) if launch else (None, None)
        name = re.sub(r"_kernel_*\d*$", "_kernel", match["name"])
        entry = Entry(name, int(match["registers"]), spilled, shared, threads)
        entries.setdefault((name, entry.registers, spilled), entry)
    return tuple(entries.values())


def _assembled(module: str) -> str:
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(module)
        file.flush()
        command = [aot.ptxas(), "-v", "-arch=sm_90a", file.name, "-o", "/dev/null"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stderr


def table() -> Iterable[str]:
    """Lines of the committed table: every program of the catalog."""
    yield "# Machine code for sm_90a (H200)\n"
    yield f"Made without a GPU by `make machine-code`: {versions()}. A program may hold several"
    yield "kernels; temp is what XLA allocates beside arguments and results, alias what it updates in place.\n"
    yield "| kernel | program | entry | registers | spill B | shared B | threads | temp B | alias B |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for kernel in KERNELS.values():
        for program in kernel.programs():
            made = aot.compile_for_h200(program.f, *program.shapes, donate_argnums=program.donated)
            yield from rows(kernel, program, made)


def versions() -> str:
    """Versions of the compilers."""
    output = subprocess.run([aot.ptxas(), "--version"], capture_output=True, text=True, check=True).stdout
    return f"jax {jax.__version__}, ptxas {output.split('release ')[-1].split(',')[0]}"


def rows(kernel: Kernel, program: Program, made: aot.Program) -> list[str]:
    """The table's lines of one program, in an order that does not follow the compiler's threads."""
    lines = []
    for e in entries(made):
        numbers = (e.registers, e.spill_bytes, e.shared_bytes, e.threads, made.temp_bytes, made.alias_bytes)
        lines.append(f"| {kernel.name} | {program.label} | {e.name} | " + " | ".join(map(str, numbers)) + " |")
    return sorted(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="a Markdown file")
    out: Path = parser.parse_args().out
    out.write_text("\n".join(table()) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
