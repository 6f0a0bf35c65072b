"""What a split is worth: scores that need no model, and whether held-out images repeat in training."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vit_lightning.data.index import Sample
from vit_lightning.data.near_duplicates import Thumbnails, distances, in_two_classes
from vit_lightning.data.splitting import Split
from vit_lightning.evaluation.intervals import LEVEL, Difference, difference
from vit_lightning.evaluation.metrics import BASELINE_NAMES, group_index
from vit_lightning.runs import LEAK

Hits = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Baselines:
    """What the scores on one held-out part have to be held against."""

    part: Literal["val", "test"]
    #: Accuracy of `majority` (the training part's largest class), `neighbour_number` (label of the training image whose
    #: number is nearest; None where a name has none) and `thumbnail_neighbour` (of the one whose thumbnail is).
    accuracy: dict[str, float | None]
    #: Share of the part's images with a near-duplicate in training.
    near_duplicates: float
    #: What would not leak.
    instead: str
    #: Whether each of the part's images is labelled right by those that are known, (N,).
    hits: dict[str, Hits] = field(default_factory=dict)
    #: By how much the nearest number is ahead of the majority, paired over blocks of frames; None for other splits. The
    #: interval is of 90 %: only a lead is a leak, and with 95 % confidence it is above the lower end.
    foretold: Difference | None = None
    #: By how much the nearest thumbnail is ahead of the majority, paired over groups; None with one group.
    alike: Difference | None = None
    #: A line about pictures of the part or of training that are in two classes; None where there is none.
    clash: str | None = None

    @property
    def leaks(self) -> bool:
        """Whether the part measures memory."""
        return self.near_duplicates > LEAK or self.tells_by_number

    @property
    def tells_by_number(self) -> bool:
        """Whether the frame number alone says more of held-out blocks than the commonest class does."""
        return self.foretold is not None and self.foretold.interval[0] > 0 and self.foretold.p < 2 * (1 - LEVEL)

    def scores(self) -> dict[str, float]:
        """All that is known, by name: the baselines and the share of near-duplicates."""
        known = {name: score for name, score in self.accuracy.items() if score is not None}
        return known | {"near_duplicates": self.near_duplicates}

    def record(self) -> dict[str, Any]:
        """What `status.json` says of it."""
        scores = {name: round(score, 4) for name, score in self.scores().items()}
        return {"part": self.part, **scores, "flagged": self.leaks}

    def tell(self, log: logging.Logger) -> None:
        """Says it, with a warning where the split leaks or a picture is in two classes."""
        first, *leaks = self.lines()
        log.info("%s", first)
        for sentence in leaks:
            log.warning("%s", sentence)
        if self.clash is not None:
            log.warning("%s", self.clash)

    def lines(self) -> list[str]:
        """The same in words: one line, and another where the split leaks."""
        scores = ", ".join(
            f"{BASELINE_NAMES[name]} {score:.3f}" for name, score in self.accuracy.items() if score is not None
        )
        return [f"{self.part} acc to beat: {scores}", *([self.sentence] if self.leaks else [])]

    @property
    def sentence(self) -> str:
        """What the share of near-duplicates means, and the lead of the nearest number where it gives the split away."""
        share = f"{self.near_duplicates:.1%} of the {self.part} images have a near-duplicate in training"
        if not self.leaks:
            return f"{share}; above {LEAK:.0%} we say that a split leaks."
        if self.foretold is not None and self.tells_by_number:
            share += (
                f", and the nearest frame number is right for {100 * self.foretold.mean:.1f} points more of them than "
                f"the commonest class (at least {100 * self.foretold.interval[0]:.1f}, with {LEVEL:.0%} confidence)"
            )
        return f"{share}: the split leaks, and scores on it measure memory; {self.instead}."

    @property
    def note(self) -> str | None:
        """What it means that the nearest thumbnail is ahead of the majority, where it is; which accuses nobody."""
        if self.alike is None or self.alike.interval[0] <= 0 or self.alike.p >= 1 - LEVEL:
            return None
        low, high = (100 * end for end in self.alike.interval)
        return (
            f"the most similar training image is right for {100 * self.alike.mean:.1f} points more of the {self.part} "
            f"images than the commonest class [{low:.1f}, {high:.1f}]: images of a class look alike here, which by "
            "itself is no leak."
        )


def score_baselines(split: Split, part: Literal["val", "test"] = "val") -> Baselines | None:
    """What a part's scores have to be held against; None where the part or training is empty.

    Args:
        split: Who trains, and who is held out.
        part: The part that is scored.

    Raises:
        OSError: A picture cannot be read.
    """
    train, held = split.part("train"), split.part(part)
    if not train or not held:
        return None
    held_thumbnails, train_thumbnails = split.thumbnails(held), split.thumbnails(train)
    nearest, near = thumbnail_neighbours(held_thumbnails, train_thumbnails)
    found = {
        "majority": majority(train, held),
        "neighbour_number": neighbour_number(train, held),
        "thumbnail_neighbour": np.array(
            [train[index].label == sample.label for index, sample in zip(nearest, held, strict=True)]
        ),
    }
    hits = {name: each for name, each in found.items() if each is not None}
    groups = group_index([sample.group for sample in held])
    foretold = None
    if split.kind == "blocks" and "neighbour_number" in hits:  # elsewhere numbers may go by class, and foretell it all
        foretold = lead(hits["neighbour_number"], hits["majority"], groups, level=2 * LEVEL - 1)
    return Baselines(
        part=part,
        accuracy={name: None if each is None else float(each.mean()) for name, each in found.items()},
        near_duplicates=float(near.mean()),
        instead=advice(split),
        hits=hits,
        foretold=foretold,
        alike=lead(hits["thumbnail_neighbour"], hits["majority"], groups),
        clash=in_two_classes(train + held, np.concatenate([train_thumbnails, held_thumbnails]), split.root),
    )


def lead(ours: Hits, theirs: Hits, groups: npt.NDArray[np.int64], level: float = LEVEL) -> Difference | None:
    """By how much one is right more often than the other, paired over groups, (N,) each; None with one group."""
    differences = np.bincount(groups, weights=ours.astype(np.float64) - theirs).astype(np.float64)
    return difference(differences, np.bincount(groups).astype(np.float64), level)


def majority(train: Sequence[Sample], held: Sequence[Sample]) -> Hits:
    """Whether the training part's largest class is right, of each held-out image (N,)."""
    largest = Counter(sample.label for sample in train).most_common(1)[0][0]
    return np.array([sample.label == largest for sample in held])


def neighbour_number(train: Sequence[Sample], held: Sequence[Sample]) -> Hits | None:
    """Whether the label of the training image whose number is nearest, the lower one of two, is right; (N,).

    None where a name has no number. Of several images with one number, as where each class counts for itself, the label
    is the commonest among them.
    """
    labels: dict[int, Counter[str]] = {}
    for sample in train:
        if sample.number is None:
            return None
        labels.setdefault(sample.number, Counter())[sample.label] += 1
    numbers = np.array(sorted(labels))
    hits = []
    for sample in held:
        if sample.number is None:
            return None
        nearest = int(numbers[np.abs(numbers - sample.number).argmin()])
        hits.append(labels[nearest].most_common(1)[0][0] == sample.label)
    return np.array(hits)


def thumbnail_neighbours(
    held: Thumbnails, train: Thumbnails
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """The index of the nearest training thumbnail of each held-out one, and whether any is a near-duplicate."""
    nearest, repeats = [], []
    for _, apart, near in distances(held, train, "holding thumbnails against each other"):
        nearest.append(apart.argmin(axis=1))
        repeats.append(near.any(axis=1))
    return np.concatenate(nearest), np.concatenate(repeats)


def advice(split: Split) -> str:
    """What to do about a split that leaks."""
    if split.kind == "random" and all(sample.number is not None for sample in split.samples):
        return (
            "if these are frames of a video, hold whole stretches out with --data.split blocks, otherwise pictures "
            "that look alike together with --data.split groups --data.group_by duplicates"
        )
    if split.kind in ("random", "groups"):
        return "hold pictures that look alike out together with --data.split groups --data.group_by duplicates"
    if split.kind == "blocks":
        return "raise --data.guard"
    if split.kind != "folders":
        return "let pictures that look alike share a part"
    return "its ready-made parts share pictures: put all images of a class into one folder, and split that by groups"
