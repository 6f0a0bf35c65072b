"""Confidence intervals that know that frames of one clip are no independent witnesses."""

import math
from functools import cache

import numpy as np
import numpy.typing as npt

#: Of all intervals.
LEVEL = 0.95

Array = npt.NDArray[np.float64]
Interval = tuple[float, float]


def wilson(share: float, count: float, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a share of `count` independent trials (Wilson 1927).

    Raises:
        ValueError: There is no trial.
    """
    from scipy.stats import norm

    if count <= 0:
        raise ValueError("an interval needs at least one trial")
    z = float(norm.ppf(0.5 + level / 2))
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def jackknife_error(without: Array) -> float:
    """The standard error of a statistic from its values without each group in turn, (G,) (Efron & Stein 1981)."""
    groups = len(without)
    return math.sqrt((groups - 1) / groups * float(((without - without.mean()) ** 2).sum()))


@cache
def t_quantile(groups: int, level: float = LEVEL) -> float:
    """How many standard errors an interval reaches to either side, with so many groups."""
    from scipy.stats import t

    return float(t.ppf(0.5 + level / 2, groups - 1))


def share_interval(share: float, without: Array, trials: float, level: float = LEVEL) -> Interval | None:
    """The interval of a share in [0, 1] over groups, by the jackknife and Student's t on the scale of log-odds.

    A plain percentile bootstrap over few groups is too narrow: it has neither the t nor the unbiased variance. The
    interval is never narrower than Wilson's for independent trials, which also stands in where all groups agree.

    Args:
        share: Of all groups together.
        without: The same without each group in turn, (G,).
        trials: Images behind the share.
        level: Of confidence.

    Returns:
        Its ends, or None with fewer than two groups or no trial: then nothing is known of how groups differ.
    """
    if len(without) < 2 or trials <= 0:
        return None
    low, high = wilson(share, trials, level)
    if 0.0 < share < 1.0:
        centre = math.log(share / (1 - share))
        half = t_quantile(len(without), level) * jackknife_error(without) / (share * (1 - share))
        low, high = min(low, logistic(centre - half)), max(high, logistic(centre + half))
    return low, high


def ratio_interval(hits: Array, trials: Array, level: float = LEVEL) -> Interval | None:
    """The interval of sum(hits) / sum(trials) over groups, (G,) each; groups without a trial say nothing."""
    hits, trials = hits[trials > 0], trials[trials > 0]
    if len(trials) < 2:
        return None
    total_hits, total = float(hits.sum()), float(trials.sum())
    return share_interval(total_hits / total, (total_hits - hits) / (total - trials), total, level)


def difference(differences: Array, trials: Array, level: float = LEVEL) -> tuple[float, Interval, float] | None:
    """The mean difference of paired scores over groups.

    Args:
        differences: Sum of the images' differences in each group, (G,).
        trials: Images in each group, (G,).
        level: Of confidence.

    Returns:
        The mean, its interval by the jackknife and Student's t, and the two-sided p-value of no difference; None with
        fewer than two groups. Where groups agree by chance, t knows no bounds: p is never below 2 / 2^G, that of as
        many coins that all fall alike.
    """
    from scipy.stats import t

    groups = len(trials)
    if groups < 2:
        return None
    total, count = float(differences.sum()), float(trials.sum())
    mean = total / count
    error = jackknife_error((total - differences) / (count - trials))
    half = t_quantile(groups, level) * error
    p = 1.0 if mean == 0.0 else 0.0 if error == 0.0 else 2 * float(t.sf(abs(mean) / error, groups - 1))
    return mean, (mean - half, mean + half), max(p, 2.0 ** (1 - groups))


def logistic(x: float) -> float:
    """1 / (1 + exp(-x)), for any x."""
    return 0.5 * (1 + math.tanh(x / 2))
