"""Whether a model is right as often as it says: likelihood, Brier score, calibration error, and a temperature.

Guo et al. 2017, "On Calibration of Modern Neural Networks"; bins of equal mass after Nguyen & O'Connor 2015, so that
the calibration error does not compare with those of bins of equal width. With few images even a model that is right
just as often as it says shows one (Kumar et al. 2019), which `ece_floor` finds.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from vit_lightning.evaluation.intervals import Difference, difference

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

#: Of the calibration error and the reliability diagram.
BINS = 15

#: So many times a perfectly calibrated model is drawn.
DRAWS = 1000

#: Temperatures lie between one over this and this.
HOTTEST = 20.0

#: A probability that underflowed counts as this one.
SMALLEST = 1e-300


def nll(probabilities: Array, labels: Labels) -> float:
    """Mean negative log-likelihood in nats: (N, K) and (N,) -> -mean log p(true class)."""
    return float(log_losses(probabilities, labels).mean())


def brier(probabilities: Array, labels: Labels) -> float:
    """Mean over images of the squared distance to the one-hot truth, summed over classes: in [0, 2] (Brier 1950)."""
    return float(squared_distances(probabilities, labels).mean())


def log_losses(probabilities: Array, labels: Labels) -> Array:
    """-log p(true class) of each image, (N, K) and (N,) -> (N,)."""
    losses: Array = -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], SMALLEST))
    return losses


def squared_distances(probabilities: Array, labels: Labels) -> Array:
    """The squared distance of each image's probabilities to the one-hot truth, (N, K) and (N,) -> (N,)."""
    losses: Array = ((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2).sum(axis=1)
    return losses


def reliability(probabilities: Array, labels: Labels, bins: int = BINS) -> tuple[Array, Array, Labels]:
    """Mean confidence, accuracy and number of images in bins of equal mass, (M,) each, by rising confidence.

    Images are sorted by the confidence of the class said and dealt into bins whose sizes differ by at most one; there
    are fewer bins where there are fewer images.
    """
    return binned(probabilities.max(axis=1), (probabilities.argmax(axis=1) == labels).astype(np.float64), bins)


def binned(confidence: Array, hit: Array, bins: int = BINS) -> tuple[Array, Array, Labels]:
    """The same from the confidence of each image, (N,), and whether the class said is right."""
    parts = np.array_split(np.argsort(confidence, kind="stable"), min(bins, len(hit)))
    return (
        np.array([confidence[part].mean() for part in parts]),
        np.array([hit[part].mean() for part in parts]),
        np.array([len(part) for part in parts]),
    )


def ece(probabilities: Array, labels: Labels, bins: int = BINS) -> float:
    """Expected calibration error: the bins' mean distance of confidence and accuracy, weighted by their images."""
    return calibration_error(*reliability(probabilities, labels, bins))


def calibration_error(confidence: Array, accuracy: Array, count: Labels) -> float:
    """The same from the bins."""
    return float((np.abs(confidence - accuracy) * count).sum() / count.sum())


def ece_floor(probabilities: Array, bins: int = BINS) -> tuple[float, float]:
    """What the calibration error of a perfectly calibrated model with these confidences would be, (N, K).

    It is right by the toss of a coin that falls as often as it says, each image by itself; the frames of a block share
    their fate, so that theirs is greater still.

    Returns:
        The mean, and what 95 of 100 such models stay below; of fixed draws, the same for the same confidences.
    """
    confidence = np.sort(probabilities.max(axis=1))
    parts = np.array_split(confidence, min(bins, len(confidence)))
    starts = np.cumsum([0, *(len(part) for part in parts[:-1])])
    said = np.add.reduceat(confidence, starts)
    rng = np.random.default_rng(0)
    gaps = [
        np.abs(np.add.reduceat((rng.random(len(confidence)) < confidence).astype(np.float64), starts) - said).sum()
        for _ in range(DRAWS)
    ]
    errors = np.array(gaps) / len(confidence)
    return float(errors.mean()), float(np.quantile(errors, 0.95))


def with_temperature(probabilities: Array, temperature: float) -> Array:
    """softmax(logits / T), from probabilities (N, K): above 1 it makes them less sure; the class said stays."""
    scaled = np.log(np.maximum(probabilities, SMALLEST)) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    result: Array = powers / powers.sum(axis=1, keepdims=True)
    return result


def fit_temperature(probabilities: Array, labels: Labels) -> float | None:
    """The temperature between 1/20 and 20 that makes the likelihood of these images' labels greatest.

    None where there is none: without a mistake the likelihood grows the colder it gets, and at either bound it would
    grow beyond.
    """
    from scipy.optimize import minimize_scalar

    if (probabilities.argmax(axis=1) == labels).all():
        return None
    hottest = float(np.log(HOTTEST))
    found = minimize_scalar(
        lambda log: nll(with_temperature(probabilities, float(np.exp(log))), labels),
        bounds=(-hottest, hottest),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return None if abs(found.x) > hottest - 1e-3 else float(np.exp(found.x))


def no_temperature(probabilities: Array, labels: Labels) -> str:
    """Why `fit_temperature` finds none for these images."""
    if (probabilities.argmax(axis=1) == labels).all():
        return "the model makes no mistake on the validation images"
    return f"none between {1 / HOTTEST:g} and {HOTTEST:g} is the likeliest on validation"


def calibration_scores(probabilities: Array, labels: Labels, groups: Labels) -> dict[str, Any]:
    """`nll`, `brier` and `ece` of one set of probabilities, and what they are worth.

    Returns:
        Beside the three, `ece_floor` and `ece_chance`, the mean and the 95 % bound of a perfectly calibrated model, and
        `intervals` over groups of `nll` and `brier`, None each where there is one group.
    """
    floor, chance = ece_floor(probabilities)
    losses = {"nll": log_losses(probabilities, labels), "brier": squared_distances(probabilities, labels)}
    means = {name: mean_over_groups(values, groups) for name, values in losses.items()}
    return {
        **{name: float(values.mean()) for name, values in losses.items()},
        "ece": ece(probabilities, labels),
        "ece_floor": floor,
        "ece_chance": chance,
        "intervals": {name: found and [max(0.0, end) for end in found.interval] for name, found in means.items()},
    }


def calibration_change(before: Array, after: Array, labels: Labels, groups: Labels) -> dict[str, Any]:
    """How two sets of probabilities for the same images, (N, K), differ in `nll` and `brier`: second less first.

    Returns:
        `difference`, `interval` and `p` of each, paired over groups; without the latter two where there is one group.
    """
    change = {}
    for name, loss in (("nll", log_losses), ("brier", squared_distances)):
        values = loss(after, labels) - loss(before, labels)
        found = mean_over_groups(values, groups)
        change[name] = {
            "difference": float(values.mean()),
            "interval": found and list(found.interval),
            "p": found and found.p,
        }
    return change


def mean_over_groups(values: Array, groups: Labels) -> Difference | None:
    """The mean of the images' values, (N,), with its interval over groups, (N,)."""
    return difference(np.bincount(groups, weights=values).astype(np.float64), np.bincount(groups).astype(np.float64))
