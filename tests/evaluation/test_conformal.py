"""Sets of classes, against the definition and MAPIE."""

import math
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from vit_lightning.evaluation.conformal import (
    calibrate_sets,
    held_out_coverage,
    kept_sets,
    least_groups,
    limit_of,
    members,
    scores_of,
    set_of,
    set_words,
    threshold,
)
from vit_lightning.evaluation.metrics import Array, Indices, Outcome


def drawn(rng: np.random.Generator, groups: int, length: int = 1, *, shared: float = 0.0) -> Outcome:
    """A model of four classes that is right for three quarters, and whose groups share a part of their logits.

    Where they do, every second group is easier, and five times as long.
    """
    lengths = np.where(np.arange(groups) % 2, 5 * length, length) if shared else np.full(groups, length)
    group = np.repeat(np.arange(groups), lengths)
    count = len(group)
    labels = rng.integers(0, 4, count)
    logits = (
        (1.5 + shared * (group % 2))[:, None] * np.eye(4)[labels]
        + rng.normal(size=(count, 4))
        + shared * rng.normal(size=(groups, 4))[group]
    )
    powers = np.exp(logits)
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    names = [f"{each}.jpg" for each in range(count)]
    groups_of = [str(each) for each in group] if length > 1 else [""] * count
    return Outcome(list("abcd"), names, groups_of, labels, probabilities)


class Known(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Gives the probabilities that are in the rows."""

    def __init__(self) -> None:
        self.classes_ = np.arange(4)

    def fit(self, x: Array, y: Indices) -> "Known":
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, x: Array) -> Indices:
        found: Indices = x.argmax(axis=1)
        return found

    def predict_proba(self, x: Array) -> Array:
        return x


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_of_independent_images_the_sets_are_mapies(level: float) -> None:
    from mapie.classification import SplitConformalClassifier

    rng = np.random.default_rng(0)
    known, new = drawn(rng, 300), drawn(rng, 500)
    mapie = SplitConformalClassifier(Known(), confidence_level=level, conformity_score="lac", prefit=True)
    mapie.conformalize(known.probabilities, known.labels)
    reference = mapie.predict_set(new.probabilities)[1][:, :, 0]
    limit = threshold(scores_of(known.probabilities, known.labels), known.group_index, level)
    assert limit is not None
    assert limit > 1 - 1 / 4, "then no set of theirs is empty, which ours never are"
    assert (members(new.probabilities, limit) == reference).all()


def test_each_group_weighs_alike_and_one_more_is_at_infinity() -> None:
    """Nine groups: 0.9 is just reached by the worst of them, however many images it has."""
    scores = np.array([*np.linspace(0.1, 0.8, 8), *np.full(100, 0.9)])
    groups = np.array([*range(8), *[8] * 100])
    assert threshold(scores, groups, 0.9) == 0.9
    assert threshold(scores, groups, 0.8) == 0.8
    assert threshold(scores[:8], groups[:8], 0.9) is None
    # Half of a group's weight: 8 groups and half of the ninth are 8.5 of 10.
    halves = np.array([*scores[:8], *np.linspace(0.85, 0.95, 100)])
    assert threshold(halves, groups, 0.85) == pytest.approx(np.linspace(0.85, 0.95, 100)[49])


def test_how_many_groups_a_level_takes() -> None:
    assert [least_groups(level) for level in (0.5, 0.8, 0.9, 0.95)] == [1, 4, 9, 19]
    for level in (0.9, 0.95):
        least = least_groups(level)
        assert threshold(np.linspace(0, 1, least), np.arange(least), level) == 1.0
        assert threshold(np.linspace(0, 1, least - 1), np.arange(least - 1), level) is None


def test_new_groups_are_covered_as_promised_where_frames_alone_would_not_be() -> None:
    rng = np.random.default_rng(1)
    over_groups: list[float] = []
    over_images: list[float] = []
    for _ in range(100):
        # An even number of groups has as many of both kinds, of which the next one is either.
        known, new = drawn(rng, 20, 6, shared=1.5), drawn(rng, 60, 6, shared=1.5)
        which = new.group_index
        scores, fresh = scores_of(known.probabilities, known.labels), scores_of(new.probabilities, new.labels)
        for groups, into in ((known.group_index, over_groups), (np.arange(len(scores)), over_images)):
            limit = threshold(scores, groups, 0.9)
            assert limit is not None
            into.append((np.bincount(which, weights=fresh <= limit) / np.bincount(which)).mean())
    error = 3 * np.std(over_groups) / math.sqrt(100)
    assert 0.9 - error <= np.mean(over_groups) <= 0.9 + 1 / 21 + error
    assert np.mean(over_images) < 0.9 - 3 * np.std(over_images) / math.sqrt(100)


def test_sets_are_never_empty_and_the_true_class_is_in_one_where_its_score_is_within() -> None:
    outcome = drawn(np.random.default_rng(2), 400)
    for limit in (0.0, 0.3, 0.9, 1.0):
        inside = members(outcome.probabilities, limit)
        assert (inside.sum(axis=1) >= 1).all()
        held = scores_of(outcome.probabilities, outcome.labels) <= limit
        assert (inside[np.arange(400), outcome.labels] == held).all()
        for row, probabilities in zip(inside, outcome.probabilities, strict=True):
            assert sorted(set_of(probabilities, limit)) == np.flatnonzero(row).tolist()
    assert set_of([0.2, 0.5, 0.3], 0.7) == [1, 2]


def test_the_section_counts_on_groups_that_were_left_out() -> None:
    outcome = drawn(np.random.default_rng(3), 19, 6, shared=1.0)
    section = calibrate_sets(outcome, "blocks")
    assert (section["groups"], section["kind"]) == (19, "blocks")
    first, second = section["levels"]
    scores, groups = scores_of(outcome.probabilities, outcome.labels), outcome.group_index
    held = [
        (scores[groups == k] <= (threshold(scores[groups != k], groups[groups != k], 0.9) or 0)).mean()
        for k in range(19)
    ]
    assert first["coverage"] == pytest.approx(np.mean(held))
    assert first["interval"][0] < first["coverage"] < first["interval"][1]
    assert sum(first["sizes"]) == pytest.approx(1)
    assert sum(size * share for size, share in enumerate(first["sizes"], 1)) == pytest.approx(first["mean_size"])
    assert second["threshold"] >= first["threshold"]
    # Without 18 others there is no threshold for 95 %, and then all classes are in the set.
    assert second["coverage"] == 1.0
    assert len(set_words(section)) == 2


def test_many_groups_are_left_out_in_shares() -> None:
    outcome = drawn(np.random.default_rng(4), 1000)
    held = held_out_coverage(scores_of(outcome.probabilities, outcome.labels), outcome.group_index, 0.9)
    assert held.mean() == pytest.approx(0.9, abs=0.02)


def test_too_few_groups_are_refused_in_a_sentence() -> None:
    section = calibrate_sets(drawn(np.random.default_rng(5), 6, 4), "blocks of 4 frames")
    assert [each["refused"] for each in section["levels"]] == [
        "to promise the true class for 90% takes 9 groups or more, and there are 6 blocks of 4 frames",
        "to promise the true class for 95% takes 19 groups or more, and there are 6 blocks of 4 frames",
    ]
    assert kept_sets({"sets": section}) is None
    assert set_words(section)[0] == "no sets for 90%: they take 9 groups, and there are 6"


def test_what_is_kept_is_the_first_level_and_nothing_of_a_split_that_leaks() -> None:
    section = calibrate_sets(drawn(np.random.default_rng(6), 12, 4), "blocks")
    metrics: dict[str, Any] = {"sets": section, "folds": {"a": {}, "b": {}}}
    kept = kept_sets(metrics)
    assert kept is not None
    assert (kept["level"], kept["groups"], kept["models"]) == (0.9, 12, 2)
    assert limit_of(kept) == section["levels"][0]["threshold"]
    assert kept_sets(metrics | {"near_duplicates": {"flagged": True}}) is None
    for broken in (None, {}, {"threshold": "x"}, {"threshold": float("nan")}, {"threshold": 7}, [0.5]):
        assert limit_of(broken) is None
