"""What a model said of held-out images, and the scores of it with their intervals."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vit_lightning.evaluation.calibration import (
    calibration_change,
    calibration_scores,
    fit_temperature,
    no_temperature,
    with_temperature,
)
from vit_lightning.evaluation.intervals import (
    LEVEL,
    effective_groups,
    jackknife_error,
    ratio_interval,
    share_interval,
    wilson,
)
from vit_lightning.files import cell, cell_of_path, csv_line

#: What scores without a model, and how it is called on the terminal and in the curves.
BASELINE_NAMES = {
    "majority": "majority",
    "neighbour_number": "nearest number",
    "thumbnail_neighbour": "nearest thumbnail",
}

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Outcome:
    """What a model said of labelled images.

    Args:
        class_names: The K classes.
        paths: Of the N images, relative to the data's root.
        groups: The group of each image: images of one stand or fall together. '' is a group by itself.
        labels: Indices of the true classes, (N,).
        probabilities: Of each class, (N, K).
    """

    class_names: list[str]
    paths: list[str]
    groups: list[str]
    labels: Indices
    probabilities: Array

    @property
    def predicted(self) -> Indices:
        """Indices of the classes said, (N,)."""
        said: Indices = self.probabilities.argmax(axis=1)
        return said

    @property
    def group_index(self) -> Indices:
        """The groups as numbers from 0, (N,); each image without one is its own."""
        return group_index(self.groups)


def group_index(groups: Sequence[str]) -> Indices:
    """Names of groups as numbers from 0, (N,); each '' is a group of its own."""
    numbers: dict[tuple[str, int], int] = {}
    keys = [(name, -1 if name else index) for index, name in enumerate(groups)]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def count_groups(outcome: Outcome) -> Array:
    """`count_said` of an outcome."""
    return count_said(outcome.labels, outcome.predicted, outcome.group_index, len(outcome.class_names))


def count_said(labels: Indices, said: Indices, groups: Indices, classes: int) -> Array:
    """Hits, images and predictions of each class in each group, (G, 3, K): all that the scores below need."""
    counts = np.zeros((int(groups.max()) + 1, 3, classes))
    hit = labels == said
    for row, (group, label) in enumerate([(groups[hit], labels[hit]), (groups, labels), (groups, said)]):
        np.add.at(counts[:, row], (group, label), 1)
    return counts


def macro_f1(counts: Array) -> Array:
    """The mean F1 over the classes that are there or were said, (..., 3, K) -> (...), as scikit-learn has it."""
    hits, support, said = counts[..., 0, :], counts[..., 1, :], counts[..., 2, :]
    f1 = np.divide(2 * hits, support + said, out=np.zeros_like(hits), where=support + said > 0)
    mean: Array = f1.sum(axis=-1) / np.maximum((support + said > 0).sum(axis=-1), 1)
    return mean


def balanced_accuracy(counts: Array) -> Array:
    """The mean recall over the classes that are there, (..., 3, K) -> (...), as scikit-learn has it."""
    hits, support = counts[..., 0, :], counts[..., 1, :]
    recall = np.divide(hits, support, out=np.zeros_like(hits), where=support > 0)
    mean: Array = recall.sum(axis=-1) / np.maximum((support > 0).sum(axis=-1), 1)
    return mean


def auroc(labels: Indices, probabilities: Array) -> float | None:
    """The mean over classes of the area under the curve of each against the rest, (N,) and (N, K).

    None where there is no class that some images are of and others not; classes without an image do not count.
    """
    from sklearn.metrics import roc_auc_score

    there = [label for label in np.unique(labels) if (labels != label).any()]
    return float(np.mean([roc_auc_score(labels == k, probabilities[:, k]) for k in there])) if there else None


def class_mean_interval(statistic: Callable[[Array], Array], counts: Array, level: float = LEVEL) -> Array:
    """The interval over groups of a mean over classes, (..., G, 3, K) -> (..., 2); NaN where there is none.

    Args:
        statistic: Such as `macro_f1`.
        counts: Of each group, as from `count_said`.
        level: Of confidence.
    """
    support = counts[..., 1, :]
    block = np.stack([support / 2, support, support], axis=-2).mean(axis=-3, keepdims=True)
    padded = np.concatenate([counts, block], axis=-3)
    shares = []
    for each in (counts, padded):
        total = each.sum(axis=-3)
        parts = np.array_split(each, each.shape[-3] // 1000 + 1, axis=-3)
        without = np.concatenate([statistic(total[..., None, :, :] - part) for part in parts], axis=-1)
        shares.append((statistic(total), jackknife_error(without)))
    # Each class has its share in the mean, and one that lives in few groups makes its error uncertain.
    number = effective_groups(np.swapaxes(support, -1, -2))
    known = np.maximum((number > 0).sum(axis=-1), 1)
    return share_interval(shares[0], shares[1], support.sum(axis=(-1, -2)), number.sum(axis=-1) / known, level)


def score(outcome: Outcome, *, level: float = LEVEL) -> dict[str, Any]:
    """Accuracy, macro-F1, balanced accuracy, AUROC, scores a class and confusion matrix, with intervals over groups.

    Returns:
        `accuracy`, `macro_f1`, `balanced_accuracy`, `auroc`, `intervals`, `per_class` and `confusion_matrix` (rows are
        true) of `metrics.json`. A score without a trial, such as the precision of a class that was never said, is 0 and
        has no interval.
    """
    classes = len(outcome.class_names)
    counts = count_groups(outcome)
    total = counts.sum(axis=0)
    matrix = np.zeros((classes, classes), dtype=int)
    np.add.at(matrix, (outcome.labels, outcome.predicted), 1)
    by_class = np.ascontiguousarray(counts.transpose(2, 1, 0))  # (K, 3, G)
    return {
        "accuracy": float(total[0].sum() / total[1].sum()),
        "macro_f1": float(macro_f1(total)),
        "balanced_accuracy": float(balanced_accuracy(total)),
        "auroc": auroc(outcome.labels, outcome.probabilities),
        "intervals": {
            "level": level,
            "accuracy": as_list(ratio_interval(counts[:, 0].sum(axis=1), counts[:, 1].sum(axis=1), level=level)),
            "macro_f1": as_list(class_mean_interval(macro_f1, counts, level)),
            "balanced_accuracy": as_list(class_mean_interval(balanced_accuracy, counts, level)),
        },
        "per_class": {
            name: score_class(*rows, level=level) for name, rows in zip(outcome.class_names, by_class, strict=True)
        },
        "confusion_matrix": matrix.tolist(),
    }


def class_ratios(hits: Array, support: Array, said: Array) -> dict[str, tuple[Array, Array]]:
    """What is divided by what for precision, recall and F1 of a class."""
    return {"precision": (hits, said), "recall": (hits, support), "f1": (hits, (support + said) / 2)}


def class_intervals(hits: Array, support: Array, said: Array, level: float = LEVEL) -> dict[str, Array]:
    """The intervals over groups of precision, recall and F1, (..., G) each -> (..., 2); NaN where there is none."""
    # False alarms are spread over all groups, and tell little of the few in which the class lives.
    groups = effective_groups(support)
    ratios = class_ratios(hits, support, said)
    return {key: ratio_interval(top, bottom, groups, level) for key, (top, bottom) in ratios.items()}


def score_class(hits: Array, support: Array, said: Array, *, level: float = LEVEL) -> dict[str, Any]:
    """Precision, recall and F1 of one class from its hits, images and predictions in each group, (G,) each.

    Returns:
        The scores, `support`, `groups` (how many groups of equal size its images are worth), `intervals`, and where a
        class with images has no interval, `no_interval` with the reason.
    """
    ratios = class_ratios(hits, support, said)
    scores: dict[str, Any] = {
        key: float(top.sum() / bottom.sum()) if bottom.any() else 0.0 for key, (top, bottom) in ratios.items()
    }
    ends = {key: as_list(each) for key, each in class_intervals(hits, support, said, level).items()}
    groups = float(effective_groups(support))
    scores |= {"support": int(support.sum()), "groups": round(groups, 2), "intervals": ends}
    if support.any() and ends["recall"] is None:
        scores["no_interval"] = "nearly all of its images are of one group"
    elif support.any() and ends["precision"] is None:
        scores["no_interval"] = (
            "nearly all images that are taken for it are of one group" if said.any() else "never said"
        )
    return scores


def calibrate(outcome: Outcome, validation: Outcome | None) -> dict[str, Any]:
    """The section `calibration` of `metrics.json`: scores before and after a temperature fitted on other images.

    Returns:
        `temperature`, `before`, `after` and `change`; all but `before` are None where no temperature was fitted, and
        `no_temperature` says why.
    """
    labels, groups = outcome.labels, outcome.group_index
    before = calibration_scores(outcome.probabilities, labels, groups)
    section = {"temperature": None, "before": before, "after": None, "change": None}
    if validation is None:
        return section | {"no_temperature": "that takes validation images other than those that are scored"}
    temperature = fit_temperature(validation.probabilities, validation.labels)
    if temperature is None:
        return section | {"no_temperature": no_temperature(validation.probabilities, validation.labels)}
    scaled = with_temperature(outcome.probabilities, temperature)
    return section | {
        "temperature": temperature,
        "after": calibration_scores(scaled, labels, groups),
        "change": calibration_change(outcome.probabilities, scaled, labels, groups),
    }


def score_challenges(outcome: Outcome, root: Path) -> dict[str, Any] | None:
    """Accuracy on those images that the data's own `challenges.csv` calls hard; None where there are none.

    The table, which Kaggle's Tom & Jerry set has beside its class folders, names a file a row: folder,image_name.
    """
    tables = [*root.glob("challenges.csv"), *root.glob("*/challenges.csv")]
    if not tables:
        return None
    try:
        with tables[0].open(newline="", encoding="utf-8-sig", errors="replace") as file:
            hard = {f"{row.get('folder')}/{row.get('image_name')}" for row in csv.DictReader(file)}
    except (OSError, csv.Error):  # the data's own, and no reason to lose a report
        return None
    chosen = np.array(["/".join(path.split("/")[-2:]) in hard for path in outcome.paths])
    if not chosen.any():
        return None
    share = float((outcome.predicted == outcome.labels)[chosen].mean())
    return {
        "images": int(chosen.sum()),
        "accuracy": share,
        "interval": as_list(np.stack(wilson(share, int(chosen.sum())))),
        "note": "few and picked by hand: an anecdote, with Wilson's interval for independent images",
    }


def write_predictions(path: Path, outcome: Outcome) -> None:
    """Writes `path,group,label,predicted,confidence` and a column a class with its probability, a row an image."""
    names = outcome.class_names
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(csv_line(["path", "group", "label", "predicted", "confidence", *(f"p_{name}" for name in names)]))
        rows = zip(outcome.paths, outcome.groups, outcome.labels, outcome.predicted, outcome.probabilities, strict=True)
        for name, group, label, said, probabilities in rows:
            numbers = [f"{number:.6f}" for number in (probabilities.max(), *probabilities)]
            words = (cell(each) for each in (group, names[label], names[said]))
            file.write(csv_line([cell_of_path(name), *words, *numbers]))


def as_list(interval: Array) -> list[float] | None:
    """For JSON: the ends, or None where there is no interval."""
    return None if np.isnan(interval).any() else [float(end) for end in interval]
