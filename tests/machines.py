"""Machines of hypothesis that run as many steps as a test says.

Hypothesis takes max_examples for a bound, and ends a history early, so that far fewer steps may run than were meant. Here
rules are counted as they run, and rounds go on, each with a seed of its own, until there were enough. So that the same steps
run every time, the settings must neither have a database nor a deadline.
"""

from __future__ import annotations

from itertools import count
from math import ceil

from hypothesis import seed, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, run_state_machine_as_test

EXAMPLES = 10, 200  # of a round, at least and at most; the first of each is the same, the simplest


class CountedMachine(RuleBasedStateMachine):
    """A machine of one initialising rule. `steps`: other rules that have run, in all histories of the class."""

    steps = 0
    _initialised = False

    @invariant()
    def count_the_step(self) -> None:
        """After each rule; the initialising one's turn is the first."""
        type(self).steps += self._initialised
        self._initialised = True


def run_steps(machine: type[CountedMachine], wanted: int, histories: settings) -> int:
    """Run histories until at least `wanted` steps have run; how many have."""
    least, most = EXAMPLES
    rounds = count()
    while machine.steps < wanted:
        examples = ceil((wanted - machine.steps) / histories.stateful_step_count)
        each = settings(histories, max_examples=min(max(examples, least), most))
        run_state_machine_as_test(seed(next(rounds))(machine), settings=each)
    return machine.steps
