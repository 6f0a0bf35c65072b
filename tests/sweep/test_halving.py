"""Who goes on at a rung."""

import random

from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from vit_lightning.sweep.halving import RUNG, Halving, rungs_of


def at(number: int, score: float, *, rung: int = 0, state: TrialState = TrialState.WAITING) -> FrozenTrial:
    """A trial that has come to a rung of epochs 2 and 6, and waits there if it waits."""
    scores = {2: score} if rung == 0 else {2: 0.5, 6: score}
    paused = {"passed": rung + 1, "paused": state == TrialState.WAITING}
    trial = create_trial(
        state=state,
        params={"a": 0.0},
        distributions={"a": FloatDistribution(0, 1)},
        intermediate_values=scores,
        value=score if state == TrialState.COMPLETE else None,
        system_attrs={RUNG: paused},
    )
    trial.number = number
    return trial


def test_rungs_are_a_sixth_and_half() -> None:
    found = {epochs: rungs_of(epochs) for epochs in (1, 2, 3, 6, 12, 15, 50, 100)}
    assert found == {1: (), 2: (1,), 3: (1, 2), 6: (1, 3), 12: (2, 6), 15: (2, 8), 50: (8, 25), 100: (17, 50)}


def test_a_third_goes_on_but_two_at_least() -> None:
    assert [Halving((2, 6), total).quota(rung) for total in (3, 12, 40) for rung in (0, 1)] == [2, 2, 4, 2, 13, 4]


def test_what_as_many_are_better_than_as_go_on_ends() -> None:
    rule = Halving((2, 6), 9)  # three go on
    trials = [at(number, score) for number, score in enumerate((0.1, 0.5, 0.3, 0.7))]
    assert [trial.number for trial in rule.hopeless(trials)] == [0]
    assert rule.hopeless(trials[:3]) == []
    trials[1] = at(1, 0.5, state=TrialState.RUNNING)  # those that went on count
    assert [trial.number for trial in rule.hopeless(trials)] == [0]
    trials[1] = at(1, 0.5, state=TrialState.FAIL)  # those that failed do not
    assert rule.hopeless(trials) == []


def test_of_equals_the_earlier_one_goes_on() -> None:
    rule = Halving((2, 6), 3)
    assert [trial.number for trial in rule.hopeless([at(number, 0.5) for number in range(4)])] == [2, 3]


def test_one_goes_on_as_soon_as_it_is_in_the_best_third() -> None:
    rule = Halving((2, 6), 40)
    trials = [at(number, score) for number, score in enumerate((0.1, 0.5, 0.3, 0.7, 0.2))]
    assert rule.ahead(trials[:2]) is None
    assert rule.ahead(trials) is trials[3]
    trials += [at(5, 0.6, rung=1)]
    assert rule.ahead(trials) is trials[3]  # of the second rung there is only one
    trials += [at(6, 0.4, rung=1), at(7, 0.8, rung=1)]
    assert rule.ahead(trials) is trials[7]  # who has come further is first


def test_the_rest_waits_until_its_rung_is_full() -> None:
    rule = Halving((2, 6), 6)
    trials = [at(0, 0.1), at(1, 0.5), at(2, 0.3)]
    assert rule.left(trials) is trials[1]
    coming = create_trial(state=TrialState.RUNNING)
    coming.number = 3
    assert rule.left([*trials, coming]) is None
    further = at(3, 0.9, state=TrialState.RUNNING)  # it is behind this rung
    assert rule.left([*trials, further]) is trials[1]
    second = [at(4, 0.9, rung=1), at(5, 0.8, rung=1)]
    assert rule.left([*trials, *second]) is trials[1]
    assert rule.left([*second, further]) is None  # which comes to their rung
    assert rule.left(second) is second[0]


def test_all_end_and_the_best_are_among_those_that_go_on() -> None:
    for seed in range(50):
        draw = random.Random(seed)
        total = draw.randint(1, 20)
        rule, scores = Halving((2, 6), total), [draw.random() for _ in range(total)]
        trials = [at(number, score) for number, score in enumerate(scores)]
        epochs = 2 * total
        for _ in range(10 * total):
            for trial in rule.hopeless(trials):
                trials[trial.number].state = TrialState.PRUNED
            chosen = rule.left(trials)
            if chosen is None:
                break
            number = chosen.number
            rung = len(chosen.intermediate_values)
            state = TrialState.WAITING if rung == 1 else TrialState.COMPLETE
            trials[number] = at(number, scores[number], rung=1, state=state)
            epochs += (4, 6)[rung - 1]
        done = {trial.number for trial in trials if trial.state == TrialState.COMPLETE}
        assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
        assert done == set(sorted(range(total), key=lambda number: -scores[number])[: rule.quota(1)])
        assert total < 9 or epochs <= 0.45 * 12 * total
