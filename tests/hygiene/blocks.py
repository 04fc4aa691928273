"""Fenced blocks of a page, run one after another as a reader would: shell blocks each in a process, Python blocks in one.

As a program, blocks.py FILE runs [[kind, code], …] and writes what each printed, up to the one that failed.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import traceback
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PYTHON, SHELL = "python", "sh"
EXEMPT = ("pip install", "make ", "git clone")  # they set up what runs the test


def blocks_of(page: Path) -> list[tuple[str, str]]:
    """(kind, code) of each block of Python or shell; one without a kind is shell."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    return [(PYTHON if kind == "python" else SHELL, code) for kind, code in found]


def run(blocks: list[tuple[str, str]], folder: Path, **env: str) -> list[str]:
    """What each printed. AssertionError names the one that failed, with what it said."""
    script = folder.parent / f"{folder.name}.json"
    script.write_text(json.dumps(blocks))
    path = os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"])
    settings = {
        "PATH": path,
        "PYTHONPATH": str(ROOT),
        "HOME": str(Path.home()),
        "OMP_WAIT_POLICY": "passive",
        "COLUMNS": "120",
        **env,
    }
    command = [sys.executable, __file__, str(script)]
    done = subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True, timeout=500)
    printed: list[str] = json.loads(script.read_text()) if done.returncode == 0 else []
    assert done.returncode == 0, done.stdout + done.stderr
    return printed


def _main(script: Path) -> int:
    blocks, names, printed = json.loads(script.read_text()), {"__name__": "__main__"}, []
    for kind, code in blocks:
        try:
            printed.append(_python(code, names) if kind == PYTHON else _shell(code))
        except BaseException:
            print(f"this block failed:\n{code}\n{traceback.format_exc()}\nbefore it:\n{printed}")
            return 1
    script.write_text(json.dumps(printed))
    sys.stdout.flush()
    os._exit(0)  # threads of a library may abort a process that leaves in the ordinary way


def _python(code: str, names: dict[str, Any]) -> str:
    with redirect_stdout(io.StringIO()) as out:
        exec(compile(code, "block", "exec"), names)
    return out.getvalue()


def _shell(code: str) -> str:
    if all(line.startswith(("#", *EXEMPT)) for line in code.strip().splitlines()):
        return "exempt"
    done = subprocess.run(["bash", "-euc", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}:\n{done.stdout}")
    return done.stdout


if __name__ == "__main__":
    raise SystemExit(_main(Path(sys.argv[1])))
