"""How often the report's 95 % intervals hold the truth, on simulated blocks of frames; beside a plain bootstrap.

    python -m benchmarks.coverage [--rounds 2000] [--png FILE] [--json]

Blocks have 30 to 120 frames. The frames of a block share most of their fate: its accuracy is drawn from a beta
distribution with mean 0.55 and a deviation of 0.25, and its shares of the four classes from a Dirichlet distribution.
The truth is what infinitely many blocks give. `bootstrap` resamples blocks and takes percentiles.
"""

import numpy as np
import numpy.typing as npt

from benchmarks.measure import arguments, finish
from vit_lightning.evaluation.intervals import ratio_interval, share_interval, wilson
from vit_lightning.evaluation.metrics import macro_f1

#: Held-out blocks: of a small run, of a fold, of half a set of 4,600 frames.
BLOCKS = (8, 19, 38)

CLASSES, MEAN, DEVIATION = 4, 0.55, 0.25

Array = npt.NDArray[np.float64]


def simulate(rng: np.random.Generator, blocks: int) -> Array:
    """Hits, images and predictions of each class in each block, (G, 3, K), of a model that errs evenly."""
    strength = MEAN * (1 - MEAN) / DEVIATION**2 - 1
    accuracy = rng.beta(MEAN * strength, (1 - MEAN) * strength, blocks)
    sizes = rng.integers(30, 121, blocks)
    shares = rng.dirichlet(np.full(CLASSES, 0.7), blocks)
    support = np.array([rng.multinomial(size, share) for size, share in zip(sizes, shares, strict=True)])
    hits = rng.binomial(support, accuracy[:, None])
    said = hits.copy()
    for label in range(CLASSES):
        others = [other for other in range(CLASSES) if other != label]
        said[:, others] += rng.multinomial(support[:, label] - hits[:, label], np.full(CLASSES - 1, 1 / (CLASSES - 1)))
    return np.stack([hits, support, said], axis=1).astype(np.float64)


def coverage(blocks: int, rounds: int, truth: float) -> dict[str, float]:
    """Shares of the rounds whose interval holds the truth."""
    rng = np.random.default_rng(blocks)
    held = dict.fromkeys(("accuracy", "macro_f1", "bootstrap", "images"), 0)
    for _ in range(rounds):
        counts = simulate(rng, blocks)
        total = counts.sum(axis=0)
        hits, images = counts[:, 0].sum(axis=1), counts[:, 1].sum(axis=1)
        resampled = rng.integers(blocks, size=(1000, blocks))
        shares = hits[resampled].sum(axis=1) / images[resampled].sum(axis=1)
        f1 = share_interval(float(macro_f1(total)), macro_f1(total - counts), float(images.sum()))
        found = {
            "accuracy": (ratio_interval(hits, images), MEAN),
            "macro_f1": (f1, truth),
            "bootstrap": (tuple(np.percentile(shares, [2.5, 97.5])), MEAN),
            "images": (wilson(hits.sum() / images.sum(), images.sum()), MEAN),
        }
        for name, (interval, value) in found.items():
            held[name] += interval is not None and interval[0] <= value <= interval[1]
    return {name: count / rounds for name, count in held.items()}


def main() -> None:
    """Simulates, and prints what came out."""
    options = arguments(__doc__, rounds=2000)
    truth = float(macro_f1(simulate(np.random.default_rng(0), 200_000).sum(axis=0)))
    print(f"share of {options.rounds} rounds whose interval holds the truth (accuracy {MEAN}, macro-F1 {truth:.4f})")
    print(f"{'blocks':>6} {'accuracy':>9} {'macro-F1':>9} {'bootstrap':>10} {'as if images':>13}")
    ratios: dict[str, float] = {}
    for blocks in BLOCKS:
        found = coverage(blocks, options.rounds, truth)
        accuracy, f1, bootstrap, images = found.values()
        print(f"{blocks:>6} {accuracy:>9.3f} {f1:>9.3f} {bootstrap:>10.3f} {images:>13.3f}")
        ratios |= {f"{name}_{blocks}": value for name, value in found.items()}
    finish(options, ratios)


if __name__ == "__main__":
    main()
