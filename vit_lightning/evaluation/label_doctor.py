"""Which labels are likely to be wrong, by confident learning (Northcutt, Jiang & Chuang 2021, arXiv 1911.00068).

It takes probabilities from models that have not seen the picture, as those of folds are. No torch in here.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vit_lightning.evaluation.metrics import Array, Indices, Outcome
from vit_lightning.files import cell, cell_of_path, csv_line, write_text

#: The table, beside the report.
DOUBTS = "doubtful_labels.csv"


@dataclass(frozen=True)
class Doubts:
    """All N pictures, the most doubtful label first.

    Args:
        paths: As in the data, each once.
        given: Indices of the labels, (N,).
        likely: Of the class that it is more likely to be, (N,); the likeliest but the given one.
        scores: 1 - p(given), (N,), from 0 to 1.
        flagged: Those that confident learning takes for wrong, (N,).
        probabilities: Means over the models that said something of it, (N, K).
    """

    paths: list[str]
    given: Indices
    likely: Indices
    scores: Array
    flagged: npt.NDArray[np.bool_]
    probabilities: Array


def examine(outcome: Outcome) -> Doubts:
    """Looks for wrong labels; of an image with several predictions, as of several seeds, their mean counts.

    Args:
        outcome: What models say of pictures that they have not seen.
    """
    paths, first, which = np.unique(np.array(outcome.paths), return_index=True, return_inverse=True)
    sums = np.zeros((len(paths), len(outcome.class_names)))
    np.add.at(sums, which, outcome.probabilities)
    probabilities, given = sums / np.bincount(which)[:, None], outcome.labels[first]
    rows = np.arange(len(paths))
    others = probabilities.copy()
    others[rows, given] = -1.0
    likely = others.argmax(axis=1)
    scores = 1 - probabilities[rows, given]
    flagged = confident_class(probabilities, given) != given
    order = np.argsort(-scores, kind="stable")
    chosen = [str(paths[index]) for index in order]
    return Doubts(chosen, given[order], likely[order], scores[order], flagged[order], probabilities[order])


def confident_class(probabilities: Array, given: Indices) -> Indices:
    """The class that each picture is counted as, (N, K) and (N,) -> (N,); the given one where none is confident.

    A class is confident where its probability reaches the mean that pictures with its label have; of several the
    likeliest counts.
    """
    count = np.bincount(given, minlength=probabilities.shape[1])
    sums = np.bincount(given, weights=probabilities[np.arange(len(given)), given], minlength=len(count))
    means = np.divide(sums, count, out=np.full(len(count), np.inf), where=count > 0)
    confident = probabilities >= means - 1e-6
    best = np.where(confident, probabilities, -1.0).argmax(axis=1)
    found: Indices = np.where(confident.any(axis=1), best, given)
    return found


def doubt_words(doubts: Doubts) -> str:
    """How many labels are likely to be wrong."""
    count, total = int(doubts.flagged.sum()), len(doubts.paths)
    return f"{count:,} of {total:,} labels are doubtful: {DOUBTS}, the worst first"


def write_doubts(folder: Path, doubts: Doubts, class_names: list[str]) -> None:
    """Writes `path,given,likely,score,flagged`, a row a picture, the most doubtful first."""
    rows = zip(doubts.paths, doubts.given, doubts.likely, doubts.scores, doubts.flagged, strict=True)
    lines = [
        csv_line([cell_of_path(path), cell(class_names[given]), cell(class_names[likely]), f"{score:.6f}", int(flag)])
        for path, given, likely, score, flag in rows
    ]
    write_text(folder / DOUBTS, "path,given,likely,score,flagged\n" + "".join(lines))
