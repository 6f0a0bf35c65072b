"""Intervals: scipy's, hand-worked cases, and how often they hold the truth."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_1samp

from benchmarks.coverage import coverage
from vit_lightning.evaluation.intervals import (
    difference,
    jackknife_error,
    logistic,
    ratio_interval,
    share_interval,
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
    """Two groups of 10 with 4 and 8 hits: share 0.6, without each 0.8 and 0.4, error 0.2, t of one degree 12.706."""
    low, high = ratio_interval(np.array([4.0, 8.0]), np.array([10.0, 10.0])) or (0.0, 0.0)
    half = 12.7062047 * 0.2 / 0.24
    centre = math.log(1.5)
    assert low == pytest.approx(1 / (1 + math.exp(half - centre)), rel=1e-6)
    assert high == pytest.approx(1 / (1 + math.exp(-half - centre)), rel=1e-6)


def test_groups_that_agree_leave_wilsons_interval() -> None:
    """Five groups of 20, each with 15 hits: nothing speaks of more than chance, and nothing of less."""
    assert ratio_interval(np.full(5, 15.0), np.full(5, 20.0)) == pytest.approx(wilson(0.75, 100))
    assert ratio_interval(np.full(5, 20.0), np.full(5, 20.0)) == pytest.approx(wilson(1.0, 100))


def test_one_group_has_no_interval_and_groups_without_a_trial_do_not_count() -> None:
    assert ratio_interval(np.array([3.0]), np.array([4.0])) is None
    assert ratio_interval(np.array([3.0, 0.0]), np.array([4.0, 0.0])) is None
    some = ratio_interval(np.array([3.0, 1.0]), np.array([4.0, 4.0]))
    assert ratio_interval(np.array([3.0, 0.0, 1.0]), np.array([4.0, 0.0, 4.0])) == some
    assert share_interval(0.5, np.array([0.4, 0.6]), 0) is None


def test_a_difference_over_equal_groups_is_the_t_test() -> None:
    means = np.array([0.1, -0.05, 0.2, 0.15, 0.0])
    found = difference(means * 20, np.full(5, 20.0))
    reference = ttest_1samp(means, 0.0)
    assert found is not None
    mean, interval, p = found
    assert mean == pytest.approx(means.mean())
    assert p == pytest.approx(reference.pvalue)
    assert interval == pytest.approx(tuple(reference.confidence_interval(0.95)))


def test_a_difference_of_nothing_and_of_all() -> None:
    assert difference(np.zeros(4), np.full(4, 9.0)) == (0.0, (0.0, 0.0), 1.0)
    assert difference(np.full(4, 9.0), np.full(4, 9.0)) == (1.0, (1.0, 1.0), 0.125)  # as four coins
    assert difference(np.array([1.0]), np.array([2.0])) is None


def test_logistic_does_not_overflow() -> None:
    assert [logistic(x) for x in (-1e4, 0.0, 1e4)] == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("blocks", [8, 19, 38])
def test_the_intervals_hold_the_truth_as_often_as_they_say(blocks: int) -> None:
    """The standard error of a share of 400 rounds is 0.011; the bootstrap that is not used is at 0.87 with 8 blocks."""
    found = coverage(blocks, 400, truth=0.5503)
    assert 0.92 <= found["accuracy"] <= 0.98
    assert 0.92 <= found["macro_f1"] <= 0.98
    assert found["images"] < 0.5
    if blocks == 8:
        assert found["bootstrap"] < 0.91
