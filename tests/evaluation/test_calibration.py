"""Calibration: hand-worked cases and scikit-learn's scores."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp
from sklearn.metrics import brier_score_loss, log_loss

from vit_lightning.evaluation.calibration import (
    brier,
    calibration_change,
    calibration_scores,
    ece,
    ece_floor,
    fit_temperature,
    nll,
    no_temperature,
    reliability,
    with_temperature,
)


def random_case(images: int = 200, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.dirichlet(np.ones(classes), images), rng.integers(classes, size=images)


def test_likelihood_and_brier_score_are_scikit_learns() -> None:
    probabilities, labels = random_case()
    assert nll(probabilities, labels) == pytest.approx(log_loss(labels, probabilities), abs=1e-6)
    reference = brier_score_loss(labels, probabilities, scale_by_half=False)
    assert brier(probabilities, labels) == pytest.approx(reference, abs=1e-6)


def test_a_calibration_error_worked_by_hand() -> None:
    """Two bins of two: confidences 0.6 and 0.7 with one hit, 0.8 and 1.0 with two: (|0.65-0.5| + |0.9-1|) / 2."""
    confidence = np.array([0.8, 0.6, 1.0, 0.7])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    labels = np.array([0, 1, 0, 0])
    assert [list(values) for values in reliability(probabilities, labels, bins=2)] == [
        pytest.approx([0.65, 0.9]),
        [0.5, 1.0],
        [2, 2],
    ]
    assert ece(probabilities, labels, bins=2) == pytest.approx(0.125)


def test_bins_have_equal_mass_and_no_more_than_images() -> None:
    probabilities, labels = random_case(images=47)
    assert sorted(set(reliability(probabilities, labels)[2].tolist())) == [3, 4]
    assert len(reliability(probabilities[:4], labels[:4])[2]) == 4


def test_the_temperature_of_a_hand_worked_case() -> None:
    """Nine of ten are right where all were said with odds 81: odds 9 would be right, so that T = ln 81 / ln 9 = 2."""
    probabilities = np.tile([81 / 82, 1 / 82], (10, 1))
    labels = np.array([0] * 9 + [1])
    assert fit_temperature(probabilities, labels) == pytest.approx(2.0, abs=1e-4)
    assert with_temperature(probabilities, 2.0)[0] == pytest.approx([0.9, 0.1])
    scores = calibration_scores(with_temperature(probabilities, 2.0), labels, np.arange(10))
    assert scores["ece"] == pytest.approx(0.18)  # ten bins of one image: nine lack 0.1, one has 0.9 too much
    assert scores["nll"] < nll(probabilities, labels)


def test_a_model_far_too_sure_gets_a_high_temperature() -> None:
    """Half are right where all were said with odds e^40: no temperature is enough."""
    probabilities = np.tile([1.0, np.exp(-40.0)], (10, 1))
    assert fit_temperature(probabilities, np.array([0, 1] * 5)) is None
    assert "none between 0.05 and 20" in no_temperature(probabilities, np.array([0, 1] * 5))
    odds = np.exp(12 * np.log(3.0))  # three of four are right: odds 3, so that T = 12
    probabilities = np.tile([odds / (1 + odds), 1 / (1 + odds)], (8, 1))
    assert fit_temperature(probabilities, np.array([0, 0, 0, 1] * 2)) == pytest.approx(12.0, rel=1e-3)


def test_validation_without_a_mistake_fits_no_temperature() -> None:
    """The colder, the likelier: 1/20 would come out, and ruin the likelihood of images with mistakes."""
    probabilities = np.tile([0.9, 0.1], (50, 1))
    assert fit_temperature(probabilities, np.zeros(50, dtype=np.int64)) is None
    assert "no mistake" in no_temperature(probabilities, np.zeros(50, dtype=np.int64))
    assert fit_temperature(probabilities, np.array([1] + [0] * 49)) is not None


def test_a_perfectly_calibrated_model_has_the_floors_error() -> None:
    """720 images: some 0.05, whichever of the calibrated models it is; a model that is too sure is above its bound."""
    rng = np.random.default_rng(1)
    errors, bounds = [], []
    for _ in range(60):
        logits = 1.5 * rng.normal(size=(720, 4))
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        labels = (rng.random((720, 1)) > probabilities.cumsum(axis=1)).sum(axis=1).clip(max=3)
        floor, bound = ece_floor(probabilities)
        errors.append(ece(probabilities, labels) / floor)
        bounds.append(ece(probabilities, labels) <= bound)
        assert 0.04 < floor < bound < 0.08
        assert ece(with_temperature(probabilities, 0.5), labels) > ece_floor(with_temperature(probabilities, 0.5))[1]
    assert np.mean(errors) == pytest.approx(1.0, abs=0.05)
    assert np.mean(bounds) >= 0.88
    assert ece_floor(probabilities) == ece_floor(probabilities)


def test_intervals_of_losses_are_over_groups() -> None:
    probabilities, labels = random_case()
    groups = np.repeat(np.arange(10), 20)
    found = calibration_scores(probabilities, labels, groups)
    losses = -np.log(probabilities[np.arange(200), labels]).reshape(10, 20).mean(axis=1)
    low, high = ttest_1samp(losses, 0.0).confidence_interval(0.95)
    assert found["intervals"]["nll"] == pytest.approx([max(low, 0.0), high])
    assert found["nll"] == pytest.approx(losses.mean())
    assert found["intervals"]["brier"][0] < found["brier"] < found["intervals"]["brier"][1]
    assert calibration_scores(probabilities, labels, np.zeros(200, dtype=np.int64))["intervals"] == {
        "nll": None,
        "brier": None,
    }


def test_a_change_is_paired_over_groups() -> None:
    probabilities, labels = random_case()
    groups = np.repeat(np.arange(10), 20)
    after = with_temperature(probabilities, 3.0)
    found = calibration_change(probabilities, after, labels, groups)
    moved = (after**2 - probabilities**2).sum(axis=1) - 2 * (after - probabilities)[np.arange(200), labels]
    reference = ttest_1samp(moved.reshape(10, 20).mean(axis=1), 0.0)
    assert found["brier"]["difference"] == pytest.approx(brier(after, labels) - brier(probabilities, labels))
    assert found["brier"]["interval"] == pytest.approx(list(reference.confidence_interval(0.95)))
    assert found["brier"]["p"] == pytest.approx(max(reference.pvalue, 2**-9))
    assert found["nll"]["difference"] < 0


def test_a_temperature_keeps_the_order_and_survives_zeros() -> None:
    probabilities, _ = random_case()
    probabilities[0] = [1.0, 0.0, 0.0]
    for temperature in (0.1, 1.0, 7.0):
        changed = with_temperature(probabilities, temperature)
        assert np.isfinite(changed).all()
        assert changed.sum(axis=1) == pytest.approx(np.ones(200))
        assert (changed.argmax(axis=1) == probabilities.argmax(axis=1)).all()
    assert with_temperature(probabilities[1:], 1.0) == pytest.approx(probabilities[1:])
    assert np.isfinite(nll(probabilities, np.array([1] + [0] * 199)))
