"""The base of RecIS's hooks."""

from __future__ import annotations

from typing import Any


class Hook:
    """Nothing at each place. RecIS's Trainer calls `after_step(metrics, global_step)` and `end()`."""

    def before_train(self) -> None:
        pass

    def after_train(self) -> None:
        pass

    def before_evaluate(self) -> None:
        pass

    def after_evaluate(self) -> None:
        pass

    def before_epoch(self) -> None:
        pass

    def after_epoch(self) -> None:
        pass

    def before_step(self) -> None:
        pass

    def after_step(self, *args: Any, **kwargs: Any) -> None:
        pass

    def end(self) -> None:
        pass
