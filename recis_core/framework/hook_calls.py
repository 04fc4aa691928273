"""Calls of a run's hooks, in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from recis_core.framework.phases import Phases
from recis_core.hooks import Hook, Run


class HookCalls:
    """Hooks in the order in which they were added; those that say nothing at a place are not called there."""

    def __init__(self, run: Run, hooks: Iterable[Hook], phases: Phases) -> None:
        self._run, self._phases = run, phases
        self.hooks: list[Hook] = []
        self._at: dict[str, list[Callable[..., None]]] = {}
        for hook in hooks:
            self.add(hook)

    def add(self, hook: Hook) -> None:
        """Raises TypeError unless it is a Hook, ValueError if it was added before."""
        if not isinstance(hook, Hook):
            raise TypeError(f"a hook must be a recis_core.hooks.Hook; got {type(hook).__name__}.")
        if any(hook is other for other in self.hooks):
            raise ValueError(f"this {type(hook).__name__} was added before; a run calls each hook once.")
        self.hooks.append(hook)
        self._at.clear()

    def call(self, place: str, *args: Any) -> None:
        """Call the method of that name of all hooks; the first error ends the calls."""
        found = self._at.get(place)
        if found is None:
            found = self._at[place] = self._methods(place)
        if found:
            with self._phases("hooks"):
                for method in found:
                    method(self._run, *args)

    def end(self) -> None:
        """Call `end` of all hooks, also where one of them raises."""
        self._end(self._methods("end"))

    def _end(self, methods: list[Callable[..., None]]) -> None:
        if methods:
            try:
                methods[0](self._run)
            finally:
                self._end(methods[1:])

    def _methods(self, place: str) -> list[Callable[..., None]]:
        backwards = place.startswith("after") or place == "end"
        ordered = reversed(self.hooks) if backwards else self.hooks
        return [getattr(hook, place) for hook in ordered if getattr(type(hook), place) is not getattr(Hook, place)]

    def state_dict(self) -> list[dict[str, Any]]:
        return [{"hook": type(hook).__name__, "state": hook.state_dict()} for hook in self.hooks]

    def load_state_dict(self, states: list[Mapping[str, Any]]) -> list[str]:
        """Give each hook the state of the hook of its class, in order; returns the classes whose state found no hook."""
        waiting = list(self.hooks)
        lost = []
        for saved in states:
            hook = next((hook for hook in waiting if type(hook).__name__ == saved["hook"]), None)
            if hook is None:
                lost += [saved["hook"]] if saved["state"] else []
                continue
            waiting.remove(hook)
            hook.load_state_dict(saved["state"])
        return lost
