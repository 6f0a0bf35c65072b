"""Successive halving: all trials are trained a little, the better ones go on (Jamieson & Talwalkar 2016).

A trial pauses at each rung, a number of epochs, and its run goes on when it is among the best that have come there; so
the order in which points come decides little, unlike with Optuna's pruner, which decides in passing and for good.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

#: Attribute of a trial: how many rungs it has passed, and whether it waits at the last of them.
RUNG = "sweep:rung"

#: One of so many goes on at each rung, but two at least: the best is to be held against a second.
FACTOR, LEAST = 3, 2


def rungs_of(epochs: int) -> tuple[int, ...]:
    """A sixth and half of the epochs: with three times as many behind each, a third of all is trained in the end."""
    found = [max(1, round(epochs / 6)), max(1, round(epochs / 2))]
    return tuple(sorted({epoch for epoch in found if epoch < epochs}))


def passed(trial: FrozenTrial) -> int:
    """How many rungs a trial has passed."""
    number: int = trial.system_attrs.get(RUNG, {"passed": 0})["passed"]
    return number


def is_paused(trial: FrozenTrial) -> bool:
    """Whether a trial waits at a rung."""
    paused: bool = trial.system_attrs.get(RUNG, {"paused": False})["paused"]
    return paused


@dataclass(frozen=True)
class Halving:
    """Who goes on.

    Args:
        rungs: In epochs, rising.
        total: How many trials there are to be.
    """

    rungs: tuple[int, ...]
    total: int

    def quota(self, rung: int) -> int:
        """How many trials go on at a rung in the end."""
        return max(LEAST, self.total // int(FACTOR ** (rung + 1)))

    def scores(self, trials: Sequence[FrozenTrial], rung: int) -> dict[int, float]:
        """The scores at a rung of all trials that have come there, by number."""
        found = {}
        for trial in trials:
            steps = [step for step in trial.intermediate_values if step >= self.rungs[rung]]
            if steps and trial.state != TrialState.FAIL:
                found[trial.number] = trial.intermediate_values[min(steps)]
        return found

    def places(self, trials: Sequence[FrozenTrial]) -> list[tuple[FrozenTrial, int, int, int]]:
        """The paused trials, each with its rung, its place there from 0, and how many have come there.

        Who has come further is first, then who is better.
        """
        found = []
        for trial in trials:
            if trial.state == TrialState.WAITING and is_paused(trial):
                rung = passed(trial) - 1
                scores = self.scores(trials, rung)
                own = scores.get(trial.number, -1.0), -trial.number
                place = sum((score, -number) > own for number, score in scores.items())
                found.append((trial, rung, place, len(scores)))
        return sorted(found, key=lambda each: (-each[1], each[2]))

    def hopeless(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Paused trials that as many are better than as go on."""
        return [trial for trial, rung, place, _ in self.places(trials) if place >= self.quota(rung)]

    def ahead(self, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
        """A paused trial in the best third of those that have come to its rung so far."""
        return next((trial for trial, _, place, come in self.places(trials) if place < come // FACTOR), None)

    def left(self, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
        """A paused trial that goes on when no others are to come to its rung."""
        coming = min((passed(trial) for trial in trials if trial.state == TrialState.RUNNING), default=len(self.rungs))
        good = [each for each in self.places(trials) if each[2] < self.quota(each[1]) and each[1] < coming]
        return min(good, key=lambda each: (each[1], each[2]))[0] if good else None
