"""The score of frames together."""

import numpy as np
import pytest

from vit_lightning.evaluation.clips import averaged, score_clips
from vit_lightning.evaluation.metrics import Outcome


def drawn(count: int = 60) -> Outcome:
    """Three clips, whose frames are shuffled and not all there; noise that averaging takes away."""
    rng = np.random.default_rng(0)
    numbers = rng.permutation(3 * count)[: 2 * count]
    labels = numbers // count % 2
    logits = 1.0 * np.eye(2)[labels] + rng.normal(size=(len(numbers), 2))
    powers = np.exp(logits)
    names, groups = [f"a/frame{number}.jpg" for number in numbers], [str(number // count) for number in numbers]
    return Outcome(["a", "b"], names, groups, labels, powers / powers.sum(axis=1, keepdims=True))


def test_it_is_the_mean_over_the_frames_of_its_clip_within_the_window() -> None:
    outcome = drawn()
    found = averaged(outcome, 4)
    assert found is not None
    numbers = [int(path.removeprefix("a/frame").removesuffix(".jpg")) for path in outcome.paths]
    for row, (number, group) in enumerate(zip(numbers, outcome.groups, strict=True)):
        near = [k for k, other in enumerate(numbers) if abs(other - number) <= 4 and outcome.groups[k] == group]
        assert found[row] == pytest.approx(outcome.probabilities[near].mean(axis=0))
    assert averaged(outcome, 0) == pytest.approx(outcome.probabilities)


def test_the_gain_is_paired_over_clips() -> None:
    outcome = drawn()
    found, alone = score_clips(outcome), score_clips(outcome, 0)
    assert found is not None
    assert alone is not None
    right = float((outcome.predicted == outcome.labels).mean())
    assert (found["window"], alone["window"]) == (9, 1)
    assert alone["accuracy"] == pytest.approx(right)
    assert alone["difference"] == 0
    assert found["difference"] == pytest.approx(found["accuracy"] - right)
    assert found["difference"] > 0.05
    assert found["interval"][0] < found["accuracy"] <= found["interval"][1]


def test_what_are_no_frames_of_clips_has_no_such_score() -> None:
    outcome = drawn()
    alone = Outcome(outcome.class_names, outcome.paths, [""] * 120, outcome.labels, outcome.probabilities)
    assert score_clips(alone) is None
    unnumbered = Outcome(outcome.class_names, ["x.jpg"] * 120, outcome.groups, outcome.labels, outcome.probabilities)
    assert score_clips(unnumbered) is None
