"""How often a step may go from file to file: entries, see recording.py. No number here ever rises.

LIMITS are today's figures. The change that earns a lower one writes it here; at its goal, a limit stays there.
"""

from __future__ import annotations

LIMITS = {
    "numba": {"forward": 45, "backward": 25, "step": 46},
    "numba, a cache that fits": {"forward": 86, "backward": 26, "step": 56},
    "numba, a cache that overflows": {"forward": 250, "backward": 26, "step": 134},
    "numba, 2 ranks": {"forward": 150, "backward": 25, "step": 170},
    "jax": {"forward": 48, "backward": 19, "step": 48},
    "pallas": {"forward": 48, "backward": 19, "step": 48},
}
GOALS = {
    "numba": {"forward": 45},
    "numba, a cache that overflows": {"forward": 250},
    "numba, 2 ranks": {"forward": 150},
}
