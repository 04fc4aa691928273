"""The bridge has never heard of embeddings."""

import subprocess
import sys

PROGRAM = """
import sys, recis_core.bridge
others = ("recis_core.", "numba", "torch2jax")  # the last only when a module is translated
print(sorted(name for name in sys.modules if name.startswith(others) and not name.startswith("recis_core.bridge")))
"""


def test_importing_the_bridge_imports_nothing_of_ours():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
