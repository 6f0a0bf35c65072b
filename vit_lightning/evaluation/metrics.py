"""What a model said of held-out images, and the scores of it with their intervals."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vit_lightning.evaluation.calibration import calibration_scores, fit_temperature, with_temperature
from vit_lightning.evaluation.intervals import LEVEL, Interval, ratio_interval, share_interval, wilson

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


def score(outcome: Outcome, *, level: float = LEVEL) -> dict[str, Any]:
    """Accuracy, macro-F1, scores a class and confusion matrix, with intervals over groups.

    Returns:
        `accuracy`, `macro_f1`, `intervals`, `per_class` and `confusion_matrix` (rows are true) of `metrics.json`. A
        score without a trial, such as the precision of a class that was never said, is 0 and has no interval.
    """
    classes = len(outcome.class_names)
    counts = count_groups(outcome)
    hits, support, said = np.ascontiguousarray(counts.transpose(1, 2, 0)).swapaxes(1, 2)  # (G, K) each, a class a row
    total = counts.sum(axis=0)
    macro = float(macro_f1(total))
    without = np.concatenate([macro_f1(total - part) for part in np.array_split(counts, len(counts) // 1000 + 1)])
    matrix = np.zeros((classes, classes), dtype=int)
    np.add.at(matrix, (outcome.labels, outcome.predicted), 1)
    per_class = {}
    for index, name in enumerate(outcome.class_names):
        ratios = {
            "precision": (hits[:, index], said[:, index]),
            "recall": (hits[:, index], support[:, index]),
            "f1": (hits[:, index], (support + said)[:, index] / 2),
        }
        scores: dict[str, Any] = {
            key: float(top.sum() / bottom.sum()) if bottom.sum() > 0 else 0.0 for key, (top, bottom) in ratios.items()
        }
        intervals = {key: as_list(ratio_interval(top, bottom, level)) for key, (top, bottom) in ratios.items()}
        per_class[name] = scores | {"support": int(support[:, index].sum()), "intervals": intervals}
    return {
        "accuracy": float(total[0].sum() / total[1].sum()),
        "macro_f1": macro,
        "intervals": {
            "level": level,
            "accuracy": as_list(ratio_interval(hits.sum(axis=1), support.sum(axis=1), level)),
            "macro_f1": as_list(share_interval(macro, without, float(total[1].sum()), level)),
        },
        "per_class": per_class,
        "confusion_matrix": matrix.tolist(),
    }


def calibrate(outcome: Outcome, validation: Outcome | None) -> dict[str, Any]:
    """The section `calibration` of `metrics.json`: scores before and after a temperature fitted on other images."""
    section: dict[str, Any] = {
        "temperature": None,
        "before": calibration_scores(outcome.probabilities, outcome.labels),
        "after": None,
    }
    if validation is not None:
        temperature = fit_temperature(validation.probabilities, validation.labels)
        after = with_temperature(outcome.probabilities, temperature)
        section |= {"temperature": temperature, "after": calibration_scores(after, outcome.labels)}
    return section


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
        "interval": as_list(wilson(share, int(chosen.sum()))),
        "note": "few and picked by hand: an anecdote, with Wilson's interval for independent images",
    }


def write_predictions(path: Path, outcome: Outcome) -> None:
    """Writes `path,group,label,predicted,confidence` and a column a class with its probability, a row an image."""
    names = outcome.class_names
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "group", "label", "predicted", "confidence", *(f"p_{name}" for name in names)])
        rows = zip(outcome.paths, outcome.groups, outcome.labels, outcome.predicted, outcome.probabilities, strict=True)
        for name, group, label, said, probabilities in rows:
            numbers = [f"{number:.6f}" for number in (probabilities.max(), *probabilities)]
            writer.writerow([name, group, names[label], names[said], *numbers])


def as_list(interval: Interval | None) -> list[float] | None:
    """For JSON."""
    return None if interval is None else list(interval)
