"""python -m recis_core.pallas_kernels [--json] [--all] [NAME ...]"""

from __future__ import annotations

import argparse
import json
import sys

from recis_core.pallas_kernels.catalog import KERNELS
from recis_core.pallas_kernels.report import describe, lines


def main(argv: list[str] | None = None) -> int:
    """0; 1 where a kernel does not compile though the toolchain is here."""
    parser = argparse.ArgumentParser(
        prog="python -m recis_core.pallas_kernels",
        description="Each kernel: lowering, dtypes, configs by dim, bytes moved, and whether it compiles for an H200 here.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(KERNELS)}; default: all")
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument("--all", action="store_true", help="compile every config and dtype, not three of each kernel")
    options = parser.parse_args(argv)
    unknown = [name for name in options.names if name not in KERNELS]
    if unknown:
        parser.error(f"NAME must be of {', '.join(KERNELS)}; got {', '.join(unknown)}.")
    found = [describe(KERNELS[name], options.all) for name in options.names or KERNELS]
    print(json.dumps(found, indent=2) if options.json else "\n".join(lines(found)))
    return 1 if any(kernel["compiled"] is False for kernel in found) else 0


if __name__ == "__main__":
    sys.exit(main())
