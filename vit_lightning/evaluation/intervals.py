"""Confidence intervals that know that frames of one clip are no independent witnesses."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

#: Of all intervals.
LEVEL = 0.95

#: With fewer groups than these are worth there is no interval: nearly all images are of one group.
LEAST_GROUPS = 1.5

#: With more degrees of freedom t is as good as normal, and scipy's noncentral t may take minutes.
MANY_DEGREES = 500

Array = npt.NDArray[np.float64]
Interval = tuple[float, float]


def wilson(share: Array | float, count: Array | float, level: float = LEVEL) -> tuple[Array, Array]:
    """The ends of Wilson's score interval of a share of `count` independent trials (Wilson 1927), of any shape.

    Raises:
        ValueError: There is no trial.
    """
    from scipy.stats import norm

    if np.any(np.asarray(count) <= 0):
        raise ValueError("an interval needs at least one trial")
    z = float(norm.ppf(0.5 + level / 2))
    share, count = np.asarray(share, dtype=np.float64), np.asarray(count, dtype=np.float64)
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return np.maximum(0.0, centre - half), np.minimum(1.0, centre + half)


def jackknife_error(without: Array, counted: npt.NDArray[np.bool_] | None = None) -> Array:
    """The standard error of a statistic from its values without each group in turn (Efron & Stein 1981).

    Args:
        without: (..., G).
        counted: Which groups have anything to say, (..., G); left out, all.

    Returns:
        (...).
    """
    there = np.ones(without.shape, dtype=bool) if counted is None else counted
    groups = np.maximum(there.sum(axis=-1), 1)
    values = np.where(there, without, 0.0)
    moved = np.where(there, values - (values.sum(axis=-1) / groups)[..., None], 0.0)
    error: Array = np.sqrt((groups - 1) / groups * (moved**2).sum(axis=-1))
    return error


def t_quantile(groups: Array | float, level: float = LEVEL) -> Array:
    """How many standard errors an interval reaches to either side, with so many groups."""
    from scipy.stats import t

    quantile: Array = t.ppf(0.5 + level / 2, np.asarray(groups, dtype=np.float64) - 1)
    return quantile


def effective_groups(trials: Array) -> Array:
    """How many groups of equal size tell as much: sum(n)^2 / sum(n^2), (..., G) -> (...) (Kish 1965).

    A class that fills one block and is glimpsed in five others lives in little more than one; without a trial it is 0.
    """
    squares = (trials**2).sum(axis=-1)
    found: Array = np.divide(trials.sum(axis=-1) ** 2, squares, out=np.zeros_like(squares), where=squares > 0)
    return found


def share_interval(
    share: tuple[Array, Array], padded: tuple[Array, Array], trials: Array, groups: Array, level: float = LEVEL
) -> Array:
    """The interval of a share in [0, 1] over groups: Wilson's, for as many independent images as the groups are worth.

    That number is the one whose binomial error is the jackknife's over groups, less Student's t for few of them (Korn &
    Graubard 1998; Franco et al. 2019). Where groups agree, as near 0 and 1, the error is small by chance and the number
    too great. So both are computed once more with one block of mean size added, half of it right; the lesser number
    counts, around both shares, and the wider ends are taken. That also serves where all groups agree.

    Args:
        share: Of all groups together, and its jackknife error, (...) each.
        padded: The same with the block added.
        trials: Images behind the share: never more than these count.
        groups: How many equal groups tell as much; see `effective_groups`.
        level: Of confidence.

    Returns:
        Its ends, (..., 2); NaN where nearly all images are of one group: then nothing is known of how groups differ.
    """
    from scipy.stats import norm

    known = (groups >= LEAST_GROUPS) & (trials > 0)
    degrees = np.maximum(groups, LEAST_GROUPS)
    z, count = float(norm.ppf(0.5 + level / 2)), np.where(known, trials, 1.0)
    for (value, error), number in ((share, degrees), (padded, degrees + 1)):
        spread = value * (1 - value)
        worth = spread * (z / t_quantile(number, level)) ** 2
        limit = np.full(np.shape(spread), np.inf)
        count = np.minimum(count, np.divide(worth, error**2, out=limit, where=(error > 0) & (spread > 0)))
    lows, highs = zip(*(wilson(value, count, level) for value, _ in (share, padded)), strict=True)
    ends: Array = np.stack([np.minimum(*lows), np.maximum(*highs)], axis=-1)
    return np.where(known[..., None], ends, np.nan)


def ratio_interval(hits: Array, trials: Array, groups: Array | None = None, level: float = LEVEL) -> Array:
    """The interval of sum(hits) / sum(trials) over groups, (..., G) each -> (..., 2); NaN where there is none.

    Args:
        hits: Of each group.
        trials: Of each group; those without a trial say nothing.
        groups: How many equal groups tell as much, where that is less than the trials let one think.
        level: Of confidence.
    """
    counted = trials > 0
    number = effective_groups(trials) if groups is None else np.minimum(groups, effective_groups(trials))
    mean = trials.sum(axis=-1, keepdims=True) / np.maximum(counted.sum(axis=-1, keepdims=True), 1)
    padded = [np.concatenate([each, pad], axis=-1) for each, pad in ((hits, mean / 2), (trials, mean))]
    return share_interval(ratio(hits, trials), ratio(*padded), trials.sum(axis=-1), number, level)


def ratio(hits: Array, trials: Array) -> tuple[Array, Array]:
    """sum(hits) / sum(trials), (..., G) each -> (...), and its jackknife error; 0 without a trial."""
    top, bottom = hits.sum(axis=-1), trials.sum(axis=-1)
    rest = bottom[..., None] - trials
    without = np.divide(top[..., None] - hits, rest, out=np.zeros_like(rest), where=rest > 0)
    share: Array = np.divide(top, bottom, out=np.zeros_like(bottom), where=bottom > 0)
    return share, jackknife_error(without, trials > 0)


class Difference(NamedTuple):
    """A mean difference of paired scores over groups.

    `p` is that of there being none, `error` the standard error, `worth` how many equal groups tell as much as `groups`.
    """

    mean: float
    interval: Interval
    p: float
    error: float
    groups: int
    worth: float


def difference(differences: Array, trials: Array, level: float = LEVEL) -> Difference | None:
    """The mean difference of paired scores over groups.

    Args:
        differences: Sum of the images' differences in each group, (G,).
        trials: Images in each group, (G,).
        level: Of confidence.

    Returns:
        The mean, its interval by the jackknife and Student's t with the degrees of freedom of `effective_groups`, and
        the two-sided p-value of no difference; None where nearly all images are of one group. Where groups agree by
        chance, t knows no bounds: p is never below 2 / 2^G, that of as many coins that all fall alike.
    """
    from scipy.stats import t

    groups, worth = len(trials), float(effective_groups(trials))
    if worth < LEAST_GROUPS:
        return None
    total, count = float(differences.sum()), float(trials.sum())
    mean = total / count
    error = float(jackknife_error((total - differences) / (count - trials)))
    half = float(t_quantile(worth, level)) * error
    p = 1.0 if mean == 0.0 else 0.0 if error == 0.0 else 2 * float(t.sf(abs(mean) / error, worth - 1))
    return Difference(mean, (mean - half, mean + half), max(p, least_p(groups)), error, groups, worth)


def least_p(groups: int) -> float:
    """The p-value below which so many groups never get: that of as many coins that all fall alike."""
    return 2.0 ** (1 - groups)


def power(found: Difference, gain: float, groups: int | None = None, level: float = LEVEL) -> float:
    """How likely a true difference is found, by the noncentral t distribution: that its p is below 1 - level.

    Args:
        found: A comparison, for how much groups differ.
        gain: The true difference.
        groups: Over how many groups like its own; left out, over its own.
        level: Of confidence.
    """
    from scipy.stats import nct, norm

    groups = groups or found.groups
    if least_p(groups) >= 1 - level:
        return 0.0
    if found.error == 0.0:
        return 1.0 if gain else 0.0
    times = groups / found.groups
    limit, degrees = float(t_quantile(found.worth * times, level)), found.worth * times - 1
    shift = abs(gain) / found.error * math.sqrt(times)
    if degrees > MANY_DEGREES:
        return float(norm.sf(limit - shift) + norm.cdf(-limit - shift))
    wrong_way = np.nan_to_num(nct.cdf(-limit, degrees, shift))  # scipy has no number where it is nearly 0
    return float(nct.sf(limit, degrees, shift) + wrong_way)


def least_found(found: Difference, chance: float = 0.8, level: float = LEVEL) -> float | None:
    """The smallest true difference that so many groups find with this chance; None where they are too few for any."""
    from scipy.optimize import brentq

    if least_p(found.groups) >= 1 - level:
        return None
    most = 3 * float(t_quantile(found.worth, level)) * found.error  # found in more than 99 of 100 cases
    return float(brentq(lambda gain: power(found, gain, level=level) - chance, 0.0, most)) if most else 0.0


def groups_for(found: Difference, gain: float, chance: float = 0.8, level: float = LEVEL) -> int:
    """How many groups like these it takes to find a true difference with this chance."""
    few, many = 0, 1
    while power(found, gain, many, level) < chance:
        few, many = many, 2 * many
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if power(found, gain, middle, level) >= chance else (middle, many)
    return many
