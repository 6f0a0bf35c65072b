"""How often `promote` makes a run champion that is no better, and how often it finds one that is.

    python -m benchmarks.champion_error [--sequences 1000] [--studies studies/accuracy-tom-and-jerry]

Wrong promotions: a first champion, then 20 candidates that are just as good, one after another on the same groups;
counted are sequences in which any of them is promoted. A gain: one candidate that is 12 points better. Three worlds:

- `drawn`: a group has its own difficulty, which all models share (a beta distribution of 0.6 +- 0.2), and each model
  its own luck with it (+- 0.15), as models of one recipe and other seeds have; then every image falls by itself;
- `clips`: the same with groups of very different sizes, 8 to 240 images;
- `real`: the groups of the Tom & Jerry folds, drawn with replacement, with what timm's ViT and the article's said of
  them; a model takes the answers of the one or the other, group by group at random, which makes all equally good.
"""

import argparse
import csv
import gzip
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vit_lightning.evaluation.intervals import difference
from vit_lightning.evaluation.promotion import groups_needed, level_of, one_sided

CANDIDATES, GAIN = 20, 0.12

Array = npt.NDArray[np.float64]


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description="Wrong promotions among equal candidates, and found gains.")
    parser.add_argument("--sequences", type=int, default=1000)
    parser.add_argument("--studies", type=Path, default=Path("studies/accuracy-tom-and-jerry"))
    options = parser.parse_args()
    print(f"{'world':8}{'groups':>8}{'wrong in 20':>14}{'plain 95 %':>12}{'12 points found':>18}")
    for groups in (6, 12, 39, 120):
        for world in ("drawn", "clips"):
            report(world, groups, options.sequences, None)
    real = real_hits(options.studies)
    report("real", len(real[2]), options.sequences, real)


def report(world: str, groups: int, sequences: int, real: tuple[Array, Array, Array] | None) -> None:
    """One row: the share of sequences with a wrong promotion, by ours and by a plain interval, and of gains found."""
    rng = np.random.default_rng(0)
    wrong, plain, found = np.zeros(sequences), np.zeros(sequences), np.zeros(sequences)
    for index in range(sequences):
        sizes, hits = draw(rng, world, groups, real)
        champion = hits(0.0)
        for attempt in range(1, CANDIDATES + 1):
            p = chance(champion, hits(0.0), sizes)
            wrong[index] = max(wrong[index], p < level_of(attempt) and groups >= groups_needed(level_of(attempt)))
            plain[index] = max(plain[index], p < 0.025)
        found[index] = chance(champion, hits(GAIN), sizes) < level_of(1)
    cells = [f"{share.mean():.3f}" for share in (wrong, plain, found)]
    print(f"{world:8}{groups:8}{cells[0]:>14}{cells[1]:>12}{cells[2]:>18}", flush=True)


def chance(before: Array, after: Array, sizes: Array) -> float:
    """The one-sided p-value of hits in each group."""
    told = difference(after - before, sizes)
    return 1.0 if told is None else one_sided(told)


def draw(
    rng: np.random.Generator, world: str, groups: int, real: tuple[Array, Array, Array] | None
) -> tuple[Array, Callable[[float], Array]]:
    """The groups' sizes, and what draws the hits in each of a model so much better."""
    if real is not None:
        one, other, sizes = real
        chosen = rng.integers(0, groups, groups)  # clips like these

        def drawn(gain: float) -> Array:
            taken = np.where(rng.random(groups) < 0.5, one[chosen], other[chosen])
            return np.clip(taken + gain * sizes[chosen], 0, sizes[chosen])

        return sizes[chosen], drawn
    sizes = np.full(groups, 120.0) if world == "drawn" else np.exp(rng.uniform(np.log(8), np.log(240), groups)).round()
    hard = rng.beta(3, 2, groups)

    def hits(gain: float) -> Array:
        share = np.clip(hard + gain + rng.normal(0, 0.15, groups), 0.01, 0.99)
        return rng.binomial(sizes.astype(int), share).astype(float)

    return sizes, hits


def real_hits(studies: Path) -> tuple[Array, Array, Array]:
    """Hits in each group of two models of a study, and the groups' sizes."""
    found: list[dict[str, list[int]]] = []
    for method in ("timm", "article"):
        right: dict[str, list[int]] = defaultdict(list)
        for folder in sorted(studies.glob(f"{method}-f*-s0")):
            with gzip.open(folder / "predictions.csv.gz", "rt", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    right[row["group"]].append(row["label"] == row["predicted"])
        found.append(right)
    one, other = found
    names = sorted(one)
    return (
        np.array([sum(one[name]) for name in names], dtype=float),
        np.array([sum(other[name]) for name in names], dtype=float),
        np.array([len(one[name]) for name in names], dtype=float),
    )


if __name__ == "__main__":
    main()
