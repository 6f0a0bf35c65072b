"""How often the report's 95 % intervals hold the truth, on simulated blocks of frames; beside ways that are not used.

    python -m benchmarks.coverage [--rounds 2000] [--seed 1] [--json]

A block shows mostly one of four classes, which has half of its frames to all of them, and the others the rest. The
frames of a block share part of their fate: its accuracy is drawn from a beta distribution around the model's, so that
two frames of one block are right together with a given correlation. The truth is what 400,000 blocks give.

The intervals were made on the first table's scenarios with seed 1. The second has others, which were not looked at
before: other correlations, lengths, shares of classes, and a model that knows some classes better than others. Each
cell is the share of the rounds in which there is an interval; of classes the one whose intervals hold least often.
`t` is the jackknife and Student's t on log-odds, never narrower than Wilson over frames; `bootstrap` resamples blocks
and takes percentiles; `frames` is Wilson's as if frames were independent.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.measure import arguments, finish
from vit_lightning.evaluation.intervals import difference, power, ratio, ratio_interval, t_quantile, wilson
from vit_lightning.evaluation.metrics import balanced_accuracy, class_intervals, class_mean_interval, macro_f1

Array = npt.NDArray[np.float64]

ACCURACIES, BLOCKS, CORRELATIONS = (0.30, 0.55, 0.85, 0.95, 0.98), (4, 6, 8, 19, 40), (0.05, 0.2, 0.5)

#: Of the four Tom & Jerry classes.
SHARES = (0.35, 0.29, 0.22, 0.14)


@dataclass(frozen=True)
class Scenario:
    """Blocks of frames, and a model that is right for some.

    Args:
        accuracy: Of the model, over all blocks; where `skill` is not 0, before it.
        correlation: Of being right, between two frames of one block.
        lengths: The least and the greatest number of frames in a block.
        shares: How many blocks show mostly each class.
        purity: The least share that a block's own class has of its frames.
        skill: So much greater are the log-odds of the first class than the accuracy's, and smaller of the last.
    """

    accuracy: float
    correlation: float
    lengths: tuple[int, int] = (30, 120)
    shares: tuple[float, ...] = SHARES
    purity: float = 0.5
    skill: float = 0.0


def confirming(accuracy: float) -> list[Scenario]:
    """The scenarios of the second table."""
    even = (0.25, 0.25, 0.25, 0.25)
    steep = (0.5, 0.2, 0.15, 0.1, 0.05)
    return [
        Scenario(accuracy, 0.1, lengths=(120, 120), skill=1.0),
        Scenario(accuracy, 0.3, lengths=(20, 300), shares=even, purity=0.8),
        Scenario(accuracy, 0.35, lengths=(60, 60), shares=steep, purity=0.3, skill=-0.7),
        Scenario(accuracy, 0.7, lengths=(10, 40), shares=even, purity=0.25),
    ]


def simulate(rng: np.random.Generator, scenario: Scenario, rounds: int, blocks: int) -> Array:
    """Hits, images and predictions of each class in each block, (R, G, 3, K)."""
    shares = np.array(scenario.shares)
    classes = len(shares)
    own = np.eye(classes)[rng.choice(classes, p=shares, size=(rounds, blocks))]
    others = shares * (1 - own)
    pure = rng.uniform(scenario.purity, 1, (rounds, blocks, 1))
    mix = own * pure + others / others.sum(axis=-1, keepdims=True) * (1 - pure)
    low, high = scenario.lengths
    support = rng.multinomial(rng.integers(low, high + 1, (rounds, blocks)), mix)
    strength = 1 / scenario.correlation - 1
    right = rng.beta(scenario.accuracy * strength, (1 - scenario.accuracy) * strength, (rounds, blocks, 1))
    odds = np.exp(scenario.skill * np.linspace(1, -1, classes))
    hits = rng.binomial(support, np.clip(right * odds / (right * odds + 1 - right), 0, 1))  # rounding exceeds 1
    said = hits.copy()
    for label in range(classes):
        rest = np.delete(np.arange(classes), label)
        wrong = support[..., label] - hits[..., label]
        said[..., rest] += rng.multinomial(wrong, np.full(classes - 1, 1 / (classes - 1)))
    return np.stack([hits, support, said], axis=-2).astype(np.float64)


def held(interval: Array, truth: float | Array) -> float:
    """The share of intervals, (R, 2), that hold the truth, of those that there are; NaN without any."""
    known = ~np.isnan(interval).any(axis=-1)
    within = (interval[..., 0] <= truth) & (truth <= interval[..., 1])
    return float(within[known].mean()) if known.any() else math.nan


def jackknife_t(hits: Array, trials: Array) -> Array:
    """What the report had before: the jackknife and t on log-odds, at least Wilson over frames, (R, G) -> (R, 2)."""
    share, error = ratio(hits, trials)
    low, high = wilson(share, trials.sum(axis=-1))
    inside = (share > 0) & (share < 1)
    odds, slope = np.where(inside, share, 0.5), np.where(inside, share * (1 - share), 1.0)
    half = t_quantile(hits.shape[-1]) * error / slope
    ends = 0.5 * (1 + np.tanh((np.log(odds / (1 - odds)) + np.stack([-half, half])) / 2))
    ends = np.stack([np.minimum(low, ends[0]), np.maximum(high, ends[1])])
    return np.where(inside, ends, np.stack([low, high])).T


def bootstrap(rng: np.random.Generator, hits: Array, trials: Array) -> Array:
    """Percentiles over 1,000 draws of blocks, (R, G) -> (R, 2)."""
    blocks = hits.shape[-1]
    drawn = rng.multinomial(blocks, np.full(blocks, 1 / blocks), 1000).T.astype(np.float64)
    return np.percentile(hits @ drawn / (trials @ drawn), [2.5, 97.5], axis=1).T


def coverage(scenario: Scenario, blocks: int, rounds: int, *, truth: Array, seed: int) -> dict[str, float]:
    """Shares of the rounds whose intervals hold the truth.

    Args:
        scenario: What is evaluated.
        blocks: On how many blocks.
        rounds: How often.
        truth: Hits, images and predictions of each class of very many blocks, (3, K).
        seed: Of chance.
    """
    rng = np.random.default_rng([seed, blocks, round(1000 * scenario.accuracy), round(1000 * scenario.correlation)])
    counts = simulate(rng, scenario, rounds, blocks)
    hits, images = counts[..., 0, :].sum(axis=-1), counts[..., 1, :].sum(axis=-1)
    accuracy = float(truth[0].sum() / truth[1].sum())
    found = {
        "accuracy": held(ratio_interval(hits, images), accuracy),
        "macro_f1": held(class_mean_interval(macro_f1, counts), float(macro_f1(truth))),
        "balanced": held(class_mean_interval(balanced_accuracy, counts), float(balanced_accuracy(truth))),
    }
    values = {
        "recall": truth[0] / truth[1],
        "precision": truth[0] / truth[2],
        "f1": 2 * truth[0] / truth[1:].sum(axis=0),
    }
    ends = class_intervals(*np.moveaxis(counts, (-2, -1), (0, 1)))
    for name, value in values.items():
        found[name] = float(np.nanmin([held(*each) for each in zip(ends[name], value, strict=True)]))
    found["given"] = float(1 - np.isnan(ends["recall"][-1]).any(axis=-1).mean())
    low, high = ratio_interval(hits, images).T
    found["width"] = float(np.median(high - low))
    found["t"] = held(jackknife_t(hits, images), accuracy)
    found["bootstrap"] = held(bootstrap(rng, hits, images), accuracy)
    found["frames"] = held(np.stack(wilson(hits.sum(axis=-1) / images.sum(axis=-1), images.sum(axis=-1)), -1), accuracy)
    return found


def truth_of(scenario: Scenario) -> Array:
    """Hits, images and predictions of each class of 400,000 blocks, (3, K)."""
    rng = np.random.default_rng(0)
    total: Array = sum(simulate(rng, scenario, 100, 1000).sum(axis=(0, 1)) for _ in range(4))
    return total


def paired(blocks: int, gain: float, rounds: int, seed: int, *, even: bool = False) -> dict[str, float]:
    """Of two models on the same frames: how often the difference's interval holds the truth, and it comes out as real.

    The second is right for `gain` more of the frames. How much more differs from block to block: normally or, where it
    is `even`, by anything up to 0.15 alike, which is hard on t with few blocks. Half of the frames are as hard for
    either. `power` is what `runs compare` says of one round: the median over rounds.
    """
    rng = np.random.default_rng([seed, blocks, round(1000 * gain)])
    counts = dict.fromkeys(("coverage", "found"), 0)
    told = []
    for _ in range(rounds):
        sizes = rng.integers(30, 121, blocks)
        first = 0.15 + 0.6 * rng.beta(1.5, 1.2, blocks)
        apart = rng.uniform(-3, 3, blocks) if even else rng.standard_normal(blocks).clip(-3, 3)
        moved = gain + 0.05 * apart
        alike = sizes // 2
        others = rng.binomial(sizes - alike, first + moved) - rng.binomial(sizes - alike, first)
        sums = others + np.sign(moved) * rng.binomial(alike, np.abs(moved))
        comparison = difference(sums.astype(np.float64), sizes.astype(np.float64))
        assert comparison is not None, "there are several blocks"
        counts["coverage"] += comparison.interval[0] <= gain <= comparison.interval[1]
        counts["found"] += comparison.p < 0.05
        told.append(power(comparison, gain))
    return {name: count / rounds for name, count in counts.items()} | {"power": float(np.median(told))}


COLUMNS = {
    "accuracy": "acc",
    "macro_f1": "macro-F1",
    "balanced": "balanced",
    "recall": "recall",
    "precision": "precision",
    "f1": "F1",
    "given": "given",
    "width": "width",
    "t": "t",
    "bootstrap": "bootstrap",
    "frames": "frames",
}


def show(scenario: Scenario, rounds: int, seed: int) -> dict[int, dict[str, float]]:
    """Prints a scenario's rows, one a number of blocks."""
    truth, rows = truth_of(scenario), {}
    for blocks in BLOCKS:
        rows[blocks] = coverage(scenario, blocks, rounds, truth=truth, seed=seed)
        cells = " ".join(f"{rows[blocks][name]:>{max(5, len(title))}.3f}" for name, title in COLUMNS.items())
        print(f"{scenario.accuracy:>5.2f} {scenario.correlation:>5.2f} {blocks:>6} {cells}", flush=True)
    return rows


def main() -> None:
    """Simulates, and prints what came out."""
    options = arguments(__doc__, rounds=2000, seed=1)
    head = f"{'model':>5} {'corr.':>5} {'blocks':>6} " + " ".join(f"{title:>5}" for title in COLUMNS.values())
    ratios: dict[str, float] = {}
    for title, tables, seed in (
        ("made on these", [Scenario(each, corr) for corr in CORRELATIONS for each in ACCURACIES], options.seed),
        ("confirmed on these", [each for model in ACCURACIES for each in confirming(model)], options.seed + 1000),
    ):
        print(f"\n{title}: share of {options.rounds} rounds whose interval holds the truth\n{head}")
        rows = [row for each in tables for blocks, row in show(each, options.rounds, seed).items() if blocks >= 6]
        least = {name: min(row[name] for row in rows) for name in COLUMNS}
        print("least, from 6 blocks up: " + ", ".join(f"{COLUMNS[name]} {value:.3f}" for name, value in least.items()))
        ratios |= {f"{title.split()[0]}_{name}": value for name, value in least.items()}
    print(f"\npaired differences, {options.rounds} rounds\n{'gains':>8} blocks   gain  holds  found  power")
    for kind in ("normal", "even"):
        for blocks in BLOCKS:
            for gain in (0.0, 0.03, 0.06):
                found = paired(blocks, gain, options.rounds, options.seed, even=kind == "even")
                cells = " ".join(f"{found[name]:>6.3f}" for name in ("coverage", "found", "power"))
                print(f"{kind:>8} {blocks:>6} {gain:>6.2f} {cells}", flush=True)
                ratios |= {f"{kind}_{name}_{blocks}_{gain}": value for name, value in found.items()}
    finish(options, ratios)


if __name__ == "__main__":
    main()
