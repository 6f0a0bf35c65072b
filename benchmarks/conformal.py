"""How often sets hold the true class, on simulated clips: those with the guarantee over groups, and those over images.

    python -m benchmarks.conformal [--rounds 1000] [--seed 1] [--json]

A clip has 20 to 150 frames and mostly one of four classes. Its frames share a part of their logits, so that they stand
or fall together; "rho" is that part's share of the variance. In the second kind of clips short ones are harder. A round
calibrates on some clips of 20,000; how often its sets hold the true class is the mean over the clips of all 20,000 of
the share of their frames. The promise is 90 %, and at most 1 / (n + 1) more. "over images" is split conformal
prediction, every frame counting alike; "one draw" takes a frame a clip, which is the other way to keep the promise.
"""

import math

import numpy as np
import numpy.typing as npt

from benchmarks.measure import arguments, finish
from vit_lightning.evaluation.conformal import members, scores_of, threshold

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

LEVEL, GROUPS, CLIPS, CLASSES = 0.9, (19, 38, 99), 20_000, 4


def draw_clips(rng: np.random.Generator, rho: float, *, harder: bool) -> tuple[Array, Indices, Indices]:
    """Probabilities (N, 4), labels (N,) and clips (N,), which come one after another."""
    length = rng.integers(20, 151, CLIPS)
    clip = np.repeat(np.arange(CLIPS), length)
    own = rng.integers(0, CLASSES, CLIPS)
    labels = np.where(rng.random(len(clip)) < 0.75, own[clip], rng.integers(0, CLASSES, len(clip)))
    shared = rng.standard_normal((CLIPS, CLASSES))[clip]
    noise = math.sqrt(rho) * shared + math.sqrt(1 - rho) * rng.standard_normal((len(clip), CLASSES))
    signal = np.where(length[clip] < 60, 0.5, 2.0) if harder else np.full(len(clip), 1.6)
    logits = noise + signal[:, None] * np.eye(CLASSES)[labels]
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True), labels, clip


def coverages(
    rng: np.random.Generator, pool: tuple[Array, Indices, Indices], groups: int, rounds: int
) -> dict[str, Array]:
    """The share of frames, each clip counting alike, whose set holds the truth: (rounds,) for each way."""
    probabilities, labels, clip = pool
    scores = scores_of(probabilities, labels)
    length = np.bincount(clip)
    first = np.cumsum(length) - length
    order = np.argsort(scores, kind="stable")
    mass = np.cumsum(1.0 / length[clip[order]]) / len(length)
    sorted_scores = scores[order]
    found: dict[str, list[float]] = {"groups": [], "one draw": [], "images": []}
    for _ in range(rounds):
        chosen = rng.choice(CLIPS, groups, replace=False)
        frames = np.concatenate([np.arange(first[c], first[c] + length[c]) for c in chosen])
        drawn = first[chosen] + rng.integers(0, length[chosen])
        limits = {
            "groups": threshold(scores[frames], clip[frames], LEVEL),
            "one draw": threshold(scores[drawn], clip[drawn], LEVEL),
            "images": threshold(scores[frames], np.arange(len(frames)), LEVEL),
        }
        for name, limit in limits.items():
            assert limit is not None, "there are groups enough"
            place = int(np.searchsorted(sorted_scores, limit, side="right"))
            found[name].append(float(mass[place - 1]))
    return {name: np.array(each) for name, each in found.items()}


def main() -> None:
    """Simulates, and prints what came out."""
    options = arguments(__doc__, rounds=1000, seed=1)
    ratios: dict[str, float] = {}
    print(f"{'rho':>4} {'short ones':>10} {'accuracy':>8} {'groups':>6} {'promise':>13}", end="")
    print("".join(f" {name:>16}" for name in ("over groups", "one draw", "over images")), f"{'size':>5}")
    for rho, harder in ((0.2, False), (0.5, False), (0.8, False), (0.5, True)):
        rng = np.random.default_rng([options.seed, round(10 * rho), harder])
        pool = draw_clips(rng, rho, harder=harder)
        accuracy = float((pool[0].argmax(axis=1) == pool[1]).mean())
        whole = threshold(scores_of(pool[0], pool[1]), pool[2], LEVEL)
        assert whole is not None, "there are groups enough"
        size = float(members(pool[0], whole).sum(axis=1).mean())
        for groups in GROUPS:
            found = coverages(rng, pool, groups, options.rounds)
            cells = ""
            for name, each in found.items():
                mean, error = float(each.mean()), float(each.std(ddof=1)) / math.sqrt(len(each))
                kept = LEVEL - 3 * error <= mean <= LEVEL + 1 / (groups + 1) + 3 * error
                cells += f"  {mean:.4f} ±{error:.4f}{' ' if kept else '!'}"
                key = f"{name.replace(' ', '_')}_{rho}{'_harder' if harder else ''}_{groups}"
                ratios |= {key: mean, f"{key}_kept": float(kept)}
            promise = f"{LEVEL:.3f}-{LEVEL + 1 / (groups + 1):.4f}"
            short = "harder" if harder else "alike"
            print(f"{rho:>4} {short:>10} {accuracy:>8.3f} {groups:>6} {promise:>13}{cells} {size:>5.2f}", flush=True)
    print("! is outside the promise by more than three standard errors")
    finish(options, ratios)


if __name__ == "__main__":
    main()
