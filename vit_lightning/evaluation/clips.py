"""Frames of a video together: their probabilities averaged over a window, scored apart from the single frames."""

from typing import Any

import numpy as np

from vit_lightning.data.index import Sample
from vit_lightning.evaluation.intervals import difference, ratio_interval
from vit_lightning.evaluation.metrics import Array, Outcome, as_list

#: Frame numbers on either side of a frame that are averaged with it.
REACH = 4


def averaged(outcome: Outcome, reach: int = REACH) -> Array | None:
    """Each frame's probabilities, the mean with those of its group whose number is at most `reach` away, (N, K).

    A clip is all frames of a group, of whatever class: nothing is known of where a label changes. None where the images
    have no numbers or no groups.
    """
    numbers = [Sample(path, "").number for path in outcome.paths]
    if any(number is None for number in numbers) or not all(outcome.groups):
        return None
    place = np.array(numbers, dtype=np.int64)
    found = np.empty_like(outcome.probabilities)
    for group in range(int(outcome.group_index.max()) + 1):
        rows = np.flatnonzero(outcome.group_index == group)
        rows = rows[np.argsort(place[rows], kind="stable")]
        sums = np.concatenate([np.zeros((1, found.shape[1])), outcome.probabilities[rows].cumsum(axis=0)])
        first = np.searchsorted(place[rows], place[rows] - reach, side="left")
        last = np.searchsorted(place[rows], place[rows] + reach, side="right")
        found[rows] = (sums[last] - sums[first]) / (last - first)[:, None]
    return found


def score_clips(outcome: Outcome, reach: int = REACH) -> dict[str, Any] | None:
    """The section `clips` of `metrics.json`: how often the averaged probabilities are right, and what that gains.

    Returns:
        `window` in frames, `accuracy` with its `interval` over groups, and `difference` to single frames with its
        `difference_interval` and `p`, paired over groups; None where images are no numbered frames in groups.
    """
    probabilities = averaged(outcome, reach)
    if probabilities is None:
        return None
    groups = outcome.group_index
    hits = (probabilities.argmax(axis=1) == outcome.labels).astype(np.float64)
    gain = hits - (outcome.predicted == outcome.labels)
    sizes = np.bincount(groups).astype(np.float64)
    paired = difference(np.bincount(groups, weights=gain).astype(np.float64), sizes)
    return {
        "window": 2 * reach + 1,
        "accuracy": float(hits.mean()),
        "interval": as_list(ratio_interval(np.bincount(groups, weights=hits).astype(np.float64), sizes)),
        "difference": float(gain.mean()),
        "difference_interval": paired and list(paired.interval),
        "p": paired and paired.p,
    }
