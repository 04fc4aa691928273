"""How often a step may go from file to file: entries, see recording.py. No number here ever rises.

LIMITS are today's figures. The change that earns a lower one writes it here; at its goal, a limit stays there.
"""

from __future__ import annotations

LIMITS = {
    "numba": {"forward": 45, "backward": 30, "step": 46},
    "numba, a cache that fits": {"forward": 88, "backward": 26, "step": 60},
    "numba, a cache that overflows": {"forward": 250, "backward": 26, "step": 138},
    "numba, 2 ranks": {"forward": 150, "backward": 32, "step": 203},
    "jax": {"forward": 84, "backward": 20, "step": 52},
    "pallas": {"forward": 84, "backward": 20, "step": 52},
}
GOALS = {
    "numba": {"forward": 45},
    "numba, a cache that overflows": {"forward": 250},
    "numba, 2 ranks": {"forward": 150},
}
