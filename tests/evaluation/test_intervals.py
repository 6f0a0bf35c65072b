"""Intervals: scipy's, hand-worked cases, and how often they hold the truth."""

import math
import time

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_1samp

from benchmarks.coverage import Scenario, coverage, paired, truth_of
from vit_lightning.evaluation.intervals import (
    Difference,
    difference,
    effective_groups,
    groups_for,
    jackknife_error,
    least_found,
    power,
    ratio_interval,
    t_quantile,
    wilson,
)


@pytest.mark.parametrize(("hits", "count"), [(0, 5), (5, 5), (3, 7), (120, 400)])
def test_wilson_is_scipys(hits: int, count: int) -> None:
    reference = binomtest(hits, count).proportion_ci(0.95, method="wilson")
    assert wilson(hits / count, count) == pytest.approx((reference.low, reference.high), abs=1e-12)


def test_wilson_needs_a_trial() -> None:
    with pytest.raises(ValueError, match="at least one trial"):
        wilson(0.0, 0)


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = np.array([1.0, 4.0, 4.0, 9.0])
    without = (values.sum() - values) / 3
    assert jackknife_error(without) == pytest.approx(values.std(ddof=1) / 2)


def test_an_interval_worked_by_hand() -> None:
    """Two groups of 10 with 4 and 8 hits: share 0.6, without each 0.8 and 0.4, error 0.2, t of one degree 12.706.

    0.6 * 0.4 / 0.2^2 = 6 images, for t 6 * (1.96 / 12.706)^2. The added group of 10 with 5 hits leaves 17 of 30,
    without each 0.65, 0.45 and 0.6: error 0.120, t of two degrees 4.303: more images, which do not count.
    """
    low, high = ratio_interval(np.array([4.0, 8.0]), np.array([10.0, 10.0]))
    images = 6 * (1.959964 / 12.706205) ** 2
    ends = wilson(0.6, images), wilson(17 / 30, images)
    assert low == pytest.approx(min(end[0] for end in ends), rel=1e-5)
    assert high == pytest.approx(max(end[1] for end in ends), rel=1e-5)


def test_groups_that_are_all_right_are_worth_few_images() -> None:
    """Six blocks of 120, all right: 13 images less t (a block half right has the error 0.5 / 7), not 720."""
    images = 13 * (1.959964 / 2.446912) ** 2
    low, high = ratio_interval(np.full(6, 120.0), np.full(6, 120.0))
    assert (low, high) == pytest.approx((wilson(6.5 / 7, images)[0], 1.0), rel=1e-5)
    assert 0.5 < low < 0.65
    low, high = ratio_interval(np.zeros(6), np.full(6, 120.0))
    assert (low, high) == pytest.approx((0.0, wilson(0.5 / 7, images)[1]), rel=1e-5)


def test_independent_images_that_are_all_right_have_wilsons_interval() -> None:
    low, high = ratio_interval(np.ones(400), np.ones(400))
    assert (low, high) == pytest.approx((wilson(400.5 / 401, 400)[0], 1.0))


def test_an_interval_is_never_narrower_than_wilsons() -> None:
    """Five groups of 20, each with 15 hits: nothing speaks of more than chance, and nothing of less."""
    low, high = ratio_interval(np.full(5, 15.0), np.full(5, 20.0))
    assert low < wilson(0.75, 100)[0]
    assert high > wilson(0.75, 100)[1]


def test_a_class_in_one_group_has_no_interval_and_groups_without_a_trial_do_not_count() -> None:
    assert np.isnan(ratio_interval(np.array([3.0]), np.array([4.0]))).all()
    assert np.isnan(ratio_interval(np.array([3.0, 0.0]), np.array([4.0, 0.0]))).all()
    assert np.isnan(ratio_interval(np.array([90.0, 1.0, 1.0]), np.array([100.0, 2.0, 2.0]))).all()
    assert np.isnan(ratio_interval(np.zeros(3), np.zeros(3))).all()
    some = ratio_interval(np.array([3.0, 1.0]), np.array([4.0, 4.0]))
    assert ratio_interval(np.array([3.0, 0.0, 1.0]), np.array([4.0, 0.0, 4.0])) == pytest.approx(some)


def test_groups_count_by_their_images() -> None:
    assert effective_groups(np.array([[5.0, 5.0, 5.0, 5.0], [100.0, 0.0, 0.0, 0.0]])).tolist() == [4.0, 1.0]
    assert effective_groups(np.array([100.0, 10.0, 10.0])) == pytest.approx(120**2 / 10200)
    assert effective_groups(np.zeros(3)) == 0.0


def test_intervals_of_many_evaluations_are_those_of_each() -> None:
    rng = np.random.default_rng(0)
    trials = rng.integers(0, 30, (5, 9)).astype(float)
    hits = np.floor(trials * rng.uniform(size=(5, 9)))
    together = ratio_interval(hits, trials)
    assert together.shape == (5, 2)
    for row in range(5):
        assert together[row] == pytest.approx(ratio_interval(hits[row], trials[row]))


def test_a_difference_over_equal_groups_is_the_t_test() -> None:
    means = np.array([0.1, -0.05, 0.2, 0.15, 0.0])
    found = difference(means * 20, np.full(5, 20.0))
    reference = ttest_1samp(means, 0.0)
    assert found is not None
    assert found.mean == pytest.approx(means.mean())
    assert found.error == pytest.approx(means.std(ddof=1) / math.sqrt(5))
    assert found.p == pytest.approx(reference.pvalue)
    assert found.interval == pytest.approx(tuple(reference.confidence_interval(0.95)))
    assert found.groups == found.worth == 5


def test_groups_of_a_difference_count_by_their_images() -> None:
    """One group of 100 and four of 10 are worth 1.9 equal ones, and the interval reaches as far as for so many."""
    found = difference(np.array([10.0, 1.0, 0.0, 2.0, 1.0]), np.array([100.0, 10.0, 10.0, 10.0, 10.0]))
    assert found is not None
    assert found.worth == pytest.approx(140**2 / 10400)
    assert found.interval[1] - found.mean == pytest.approx(float(t_quantile(140**2 / 10400)) * found.error)
    assert difference(np.array([10.0, 1.0]), np.array([100.0, 10.0])) is None  # worth 1.2


def test_a_difference_of_nothing_and_of_all() -> None:
    assert difference(np.zeros(4), np.full(4, 9.0)) == Difference(0.0, (0.0, 0.0), 1.0, 0.0, 4, 4.0)
    as_four_coins = Difference(1.0, (1.0, 1.0), 0.125, 0.0, 4, 4.0)
    assert difference(np.full(4, 9.0), np.full(4, 9.0)) == as_four_coins
    assert difference(np.array([1.0]), np.array([2.0])) is None


def with_error(error: float, groups: int, worth: float | None = None) -> Difference:
    return Difference(0.0, (0.0, 0.0), 1.0, error, groups, worth or groups)


def test_power_is_that_of_the_t_test() -> None:
    """Against 100,000 draws of eight groups: a true difference of 1.5 standard errors."""
    rng = np.random.default_rng(0)
    draws = rng.normal(1.5 / math.sqrt(8), 1.0, (100_000, 8))
    t = draws.mean(axis=1) / (draws.std(axis=1, ddof=1) / math.sqrt(8))
    share = float((np.abs(t) > t_quantile(8)).mean())
    found = with_error(0.02, 8)
    assert power(found, 0.03) == power(found, -0.03) == pytest.approx(share, abs=0.006)
    assert power(found, 0.0) == pytest.approx(0.05)
    assert power(with_error(0.02, 8, worth=5.0), 0.03) < power(found, 0.03)


def test_the_smallest_difference_that_is_found_and_how_many_groups_it_takes() -> None:
    found = with_error(0.02, 8)
    gain = least_found(found)
    assert gain is not None
    assert power(found, gain) == pytest.approx(0.8, abs=1e-6)
    assert groups_for(found, gain - 1e-6) == 9
    needed = groups_for(found, 0.02)
    assert power(with_error(0.02 * math.sqrt(8 / needed), needed), 0.02) >= 0.8
    assert power(with_error(0.02 * math.sqrt(8 / (needed - 1)), needed - 1), 0.02) < 0.8
    assert least_found(with_error(0.0, 8)) == 0.0
    assert (power(with_error(0.0, 8), 0.1), power(with_error(0.0, 8), 0.0)) == (1.0, 0.0)


def test_many_groups_are_counted_at_once() -> None:
    """A small gain among groups that differ a lot takes thousands: 40 * (0.3 / 0.05)^2 * (1.96 + 0.84)^2."""
    began = time.perf_counter()
    assert groups_for(with_error(0.3, 40), 0.05) == pytest.approx(40 * 36 * 2.8016**2, rel=0.005)
    few, many = (power(with_error(0.02, groups), 0.05) for groups in (500, 502))  # on either side of the change
    assert few == pytest.approx(many, abs=0.003)
    assert time.perf_counter() - began < 5


def test_five_groups_never_find_anything() -> None:
    assert (power(with_error(0.001, 5), 0.5), least_found(with_error(0.001, 5))) == (0.0, None)
    assert power(with_error(0.001, 6), 0.5) == pytest.approx(1.0)
    assert groups_for(with_error(1e-5, 5), 0.5) == 6


@pytest.mark.parametrize("blocks", [6, 19, 40])
@pytest.mark.parametrize(("accuracy", "correlation"), [(0.55, 0.2), (0.85, 0.05), (0.95, 0.5), (0.98, 0.5)])
def test_the_intervals_hold_the_truth_as_often_as_they_say(blocks: int, accuracy: float, correlation: float) -> None:
    """Two standard errors of a share of 1,000 rounds are 0.016; with 6 blocks t holds 0.42 of the last."""
    scenario = Scenario(accuracy, correlation)
    found = coverage(scenario, blocks, 1000, truth=truth_of(scenario), seed=3)
    assert min(found["accuracy"], found["macro_f1"], found["balanced"]) >= 0.93 - 0.016
    assert found["recall"] >= 0.93 - 0.03  # the least of four classes
    assert found["frames"] < 0.7
    if blocks == 6:
        assert found["bootstrap"] < 0.9
        assert accuracy < 0.95 or found["t"] < 0.75


@pytest.mark.parametrize("blocks", [6, 19])
def test_paired_differences_hold_and_are_found_as_often_as_said(blocks: int) -> None:
    none, some = (paired(blocks, gain, 1000, seed=3) for gain in (0.0, 0.06))
    assert min(none["coverage"], some["coverage"]) >= 0.94 - 0.015
    assert none["found"] <= 0.05 + 0.014
    assert some["found"] == pytest.approx(some["power"], abs=0.06)
