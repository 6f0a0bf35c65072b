"""Sets of classes that hold the true one as often as they say, with the guarantee over groups; no torch in here.

Split conformal prediction counts images as exchangeable, which frames of one clip are not. Hierarchical conformal
prediction (Dunn, Wasserman & Ramdas 2018, arXiv 1809.07441; Lee, Barber & Willett 2023, arXiv 2306.06342) counts
groups: each has the same weight, which its images share, and one more group, the one to come, is as bad as can be. What
it promises is of an image of a new group, over all groups.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vit_lightning.evaluation.intervals import ratio_interval
from vit_lightning.evaluation.metrics import Array, Indices, Outcome, as_list
from vit_lightning.runs import finite

#: How often a set is to hold the true class.
LEVELS = (0.9, 0.95)

#: Groups are left out one by one to count how often sets hold the truth, many of them in so many shares.
SHARES = 200


def scores_of(probabilities: Array, labels: Indices) -> Array:
    """How strange a class would be: 0 if it is the likeliest, else 1 - p; (N, K) and (N,) -> (N,).

    That the likeliest has 0 keeps sets from being empty. Where that class alone is right often enough, it is the set.
    """
    own = probabilities[np.arange(len(labels)), labels]
    scores: Array = np.where(probabilities.argmax(axis=1) == labels, 0.0, 1.0 - own)
    return scores


def least_groups(level: float) -> int:
    """How many groups it takes for sets at this level: 9 for 0.9, 19 for 0.95."""
    return int(np.ceil(level / (1 - level) - 1e-9))


def threshold(scores: Array, groups: Indices, level: float) -> float | None:
    """The greatest strangeness of a class that belongs to the set, (N,) and (N,) with groups from 0.

    It is the quantile of the scores, each weighing 1 / (G + 1) over its group's images, with as much at infinity for
    the group to come. None where that is infinite: with fewer groups than `least_groups`.
    """
    _, groups, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.argsort(scores, kind="stable")
    mass = np.cumsum(1.0 / sizes[groups[order]]) / (len(sizes) + 1)
    place = int(np.searchsorted(mass, level - 1e-9))
    return float(scores[order[place]]) if place < len(order) else None


def members(probabilities: Array, limit: float) -> npt.NDArray[np.bool_]:
    """Which classes are in the sets of images at a threshold, (N, K) -> (N, K); the likeliest always is."""
    inside: npt.NDArray[np.bool_] = 1.0 - probabilities <= limit
    inside[np.arange(len(probabilities)), probabilities.argmax(axis=1)] = True
    return inside


def set_of(probabilities: Sequence[float] | npt.NDArray[Any], limit: float) -> list[int]:
    """The classes in an image's set, (K,) -> indices, the likeliest first."""
    row = np.asarray(probabilities, dtype=np.float64)
    order = np.argsort(-row, kind="stable")
    return [int(k) for place, k in enumerate(order) if place == 0 or 1.0 - row[k] <= limit]


def calibrate_sets(outcome: Outcome, kind: str) -> dict[str, Any]:
    """The section `sets` of `metrics.json`: thresholds from these images, and how often such sets hold the truth.

    How often is counted on groups that the threshold was not made from: each is left out in turn.

    Args:
        outcome: Images that the weights have not seen.
        kind: What the groups are called.

    Returns:
        `groups`, `kind` and `levels`, a list with `level`, `threshold`, `coverage` (the mean over groups), its
        `interval`, `mean_size`, `sizes` (the share of sets of 1, 2, ... classes) and `per_class`; or of a level with
        too few groups `level` and `refused`, a sentence.
    """
    groups = outcome.group_index
    scores, count = scores_of(outcome.probabilities, outcome.labels), int(groups.max()) + 1
    levels: list[dict[str, Any]] = []
    for level in LEVELS:
        limit = threshold(scores, groups, level)
        if limit is None:
            words = f"to promise the true class for {level:.0%} takes {least_groups(level)} groups or more"
            levels.append({"level": level, "refused": f"{words}, and there are {count} {kind}"})
            continue
        inside = members(outcome.probabilities, limit)
        size = inside.sum(axis=1)
        held = held_out_coverage(scores, groups, level)
        shares = mean_by(held, groups)
        present = {name: held[outcome.labels == k] for k, name in enumerate(outcome.class_names)}
        levels.append(
            {
                "level": level,
                "threshold": limit,
                "coverage": float(shares.mean()),
                "interval": as_list(ratio_interval(shares, np.ones(count))),
                "mean_size": float(mean_by(size, groups).mean()),
                "sizes": [
                    float(mean_by(size == number, groups).mean()) for number in range(1, len(outcome.class_names) + 1)
                ],
                "per_class": {name: float(each.mean()) for name, each in present.items() if len(each)},
            }
        )
    return {"groups": count, "kind": kind, "levels": levels}


def held_out_coverage(scores: Array, groups: Indices, level: float) -> npt.NDArray[np.bool_]:
    """Whether each image's true class is in its set, with the threshold of the other groups; (N,)."""
    held = np.zeros(len(scores), dtype=bool)
    share = groups % min(int(groups.max()) + 1, SHARES)
    for number in range(int(share.max()) + 1):
        out = share == number
        limit = threshold(scores[~out], groups[~out], level)
        held[out] = True if limit is None else scores[out] <= limit  # without a threshold all classes are in the set
    return held


def mean_by(values: npt.NDArray[Any], groups: Indices) -> Array:
    """The mean of the images' values in each group, (N,) and (N,) -> (G,)."""
    means: Array = np.bincount(groups, weights=values.astype(np.float64)) / np.bincount(groups)
    return means


def kept_sets(metrics: dict[str, Any]) -> dict[str, Any] | None:
    """What `predict` and `serve` go by, from `metrics.json`: the first level at which a label alone is not enough.

    None where no level has a threshold, and on a split that leaks: what measures memory promises nothing of new images.
    """
    section = metrics.get("sets")
    if not section or (metrics.get("near_duplicates") or {}).get("flagged"):
        return None
    known = [each for each in section["levels"] if "threshold" in each]
    level = next((each for each in known if each["threshold"] > 0), known[-1] if known else None)
    models = len(metrics.get("folds") or [1])
    return level and {
        **{name: level[name] for name in ("level", "threshold", "mean_size")},
        **{name: section[name] for name in ("groups", "kind")},
        "models": models,
    }


def limit_of(kept: Any) -> float | None:  # noqa: ANN401  # whatever a file holds
    """The threshold in what `kept_sets` gave and a file has kept; None where it is none."""
    limit = finite(kept.get("threshold")) if isinstance(kept, dict) else None
    return limit if limit is not None and 0 <= limit <= 1 else None


def kept_words(kept: dict[str, Any]) -> str:
    """What such sets promise."""
    words = f"hold the true class for {kept['level']:.0%} of new groups ({kept['groups']} were tested"
    return f"{words}, by {kept['models']} models)" if kept.get("models", 1) > 1 else f"{words})"


def set_words(section: dict[str, Any], hint: str = "") -> list[str]:
    """The section in words, a line a level; with a hint where there are too few groups."""
    lines = []
    for each in section["levels"]:
        if "refused" in each:
            least, count = least_groups(each["level"]), section["groups"]
            lines.append(f"no sets for {each['level']:.0%}: they take {least} groups, and there are {count}{hint}")
            continue
        line = (
            f"sets for {each['level']:.0%}: {each['mean_size']:.2f} classes, and the true one in {each['coverage']:.1%}"
        )
        if each["interval"]:
            line += f" [{100 * each['interval'][0]:.1f}, {100 * each['interval'][1]:.1f}]"
        lines.append(line)
    return lines
