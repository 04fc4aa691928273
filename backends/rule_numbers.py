"""A rule's numbers at step t, where they follow from more than a group's settings.

Of Python floats (sqrt is math.sqrt), or of float64 arrays inside a jitted step (jax.numpy.sqrt): one formula for both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def adam_numbers(
    lr: Any, beta1: float, beta2: float, eps: float, decay: Any, t: Any, sqrt: Callable[[Any], Any]
) -> tuple[Any, ...]:
    """RULES["adam"] at applied step t >= 1. Kingma & Ba 2015, arXiv:1412.6980, end of section 2."""
    alpha = -lr * sqrt(1 - beta2**t) / (1 - beta1**t)
    return alpha, beta1, 1 - beta1, beta2, 1 - beta2, eps, decay


def adagrad_numbers(lr: Any, lr_decay: float, weight_decay: float, eps: float, t: Any) -> tuple[Any, ...]:
    """RULES["adagrad"] and those of its row-wise form at applied step t >= 1, as torch.optim.Adagrad."""
    return lr / (1 + (t - 1) * lr_decay), weight_decay, eps
