"""The random numbers of this process: torch's, the GPU's, numpy's and Python's, as plain values and tensors."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def seed_all(seed: int) -> None:
    """Seed torch on all devices, numpy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def random_state() -> dict[str, Any]:
    kind, keys, pos, has_gauss, gauss = np.random.get_state(legacy=True)
    version, words, next_gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
        "numpy": [
            str(kind),
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            int(pos),
            int(has_gauss),
            float(gauss),
        ],
        "python": [version, torch.tensor(words), next_gauss],
    }


def check_random_state(state: Mapping[str, Any]) -> None:
    """Raises ValueError if a part is no state of its generator."""
    try:
        torch.Generator().set_state(state["torch"])
        np.random.RandomState().set_state(_of_numpy(state["numpy"]))
        random.Random().setstate(_of_python(state["python"]))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"this is no state of random numbers: {error}") from error


def set_random_state(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(state["cuda"])
    np.random.set_state(_of_numpy(state["numpy"]))
    random.setstate(_of_python(state["python"]))


def _of_numpy(state: Any) -> Any:
    kind, keys, *rest = state
    return (kind, keys.numpy().astype(np.uint32), *rest)


def _of_python(state: Any) -> Any:
    version, words, gauss = state
    return version, tuple(words.tolist()), gauss
