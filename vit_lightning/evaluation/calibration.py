"""Whether a model is right as often as it says: likelihood, Brier score, calibration error, and a temperature.

Guo et al. 2017, "On Calibration of Modern Neural Networks"; bins of equal mass after Nguyen & O'Connor 2015.
"""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

#: Of the calibration error and the reliability diagram.
BINS = 15

#: A probability that underflowed counts as this one.
SMALLEST = 1e-300


def nll(probabilities: Array, labels: Labels) -> float:
    """Mean negative log-likelihood in nats: (N, K) and (N,) -> -mean log p(true class)."""
    chosen = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(chosen, SMALLEST)).mean())


def brier(probabilities: Array, labels: Labels) -> float:
    """Mean over images of the squared distance to the one-hot truth, summed over classes: in [0, 2] (Brier 1950)."""
    truth = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities - truth) ** 2).sum(axis=1).mean())


def reliability(probabilities: Array, labels: Labels, bins: int = BINS) -> tuple[Array, Array, Labels]:
    """Mean confidence, accuracy and number of images in bins of equal mass, (M,) each, by rising confidence.

    Images are sorted by the confidence of the class said and dealt into bins whose sizes differ by at most one; there
    are fewer bins where there are fewer images.
    """
    confidence = probabilities.max(axis=1)
    hit = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    parts = np.array_split(np.argsort(confidence, kind="stable"), min(bins, len(labels)))
    return (
        np.array([confidence[part].mean() for part in parts]),
        np.array([hit[part].mean() for part in parts]),
        np.array([len(part) for part in parts]),
    )


def ece(probabilities: Array, labels: Labels, bins: int = BINS) -> float:
    """Expected calibration error: the bins' mean distance of confidence and accuracy, weighted by their images."""
    confidence, accuracy, count = reliability(probabilities, labels, bins)
    return float((np.abs(confidence - accuracy) * count).sum() / count.sum())


def with_temperature(probabilities: Array, temperature: float) -> Array:
    """softmax(logits / T), from probabilities (N, K): above 1 it makes them less sure; the class said stays."""
    scaled = np.log(np.maximum(probabilities, SMALLEST)) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    result: Array = powers / powers.sum(axis=1, keepdims=True)
    return result


def fit_temperature(probabilities: Array, labels: Labels) -> float:
    """The temperature between 1/20 and 20 that makes the likelihood of these images' labels greatest."""
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda log: nll(with_temperature(probabilities, float(np.exp(log))), labels),
        bounds=(-np.log(20.0), np.log(20.0)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))


def calibration_scores(probabilities: Array, labels: Labels) -> dict[str, float]:
    """`nll`, `brier` and `ece` of one set of probabilities."""
    return {
        "nll": nll(probabilities, labels),
        "brier": brier(probabilities, labels),
        "ece": ece(probabilities, labels),
    }
