"""What a split is worth: scores that need no model, and whether held-out images repeat in training."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from vit_lightning.data.index import Sample
from vit_lightning.data.near_duplicates import Thumbnails, distances
from vit_lightning.data.splitting import Split

#: Share of held-out images with a near-duplicate in training above which a split is said to leak.
LEAK = 0.05


#: What scores without a model, and how it is called on the terminal.
BASELINE_NAMES = {
    "majority": "majority",
    "neighbour_number": "nearest number",
    "thumbnail_neighbour": "nearest thumbnail",
}


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

    @property
    def leaks(self) -> bool:
        """Whether the part measures memory."""
        return self.near_duplicates > LEAK

    def scores(self) -> dict[str, float]:
        """All that is known, by name: the baselines and the share of near-duplicates."""
        known = {name: score for name, score in self.accuracy.items() if score is not None}
        return known | {"near_duplicates": self.near_duplicates}

    def record(self) -> dict[str, Any]:
        """What `status.json` says of it."""
        return {"part": self.part} | {name: round(score, 4) for name, score in self.scores().items()}

    def tell(self, log: logging.Logger) -> None:
        """Says it, with a warning where the split leaks."""
        first, *leaks = self.lines()
        log.info("%s", first)
        for sentence in leaks:
            log.warning("%s", sentence)

    def lines(self) -> list[str]:
        """The same in words: one line, and another where the split leaks."""
        scores = ", ".join(
            f"{BASELINE_NAMES[name]} {score:.3f}" for name, score in self.accuracy.items() if score is not None
        )
        return [f"{self.part} acc to beat: {scores}", *([self.sentence] if self.leaks else [])]

    @property
    def sentence(self) -> str:
        """What the share of near-duplicates means."""
        share = f"{self.near_duplicates:.1%} of the {self.part} images have a near-duplicate in training"
        if not self.leaks:
            return f"{share}; above {LEAK:.0%} we say that a split leaks."
        return f"{share}: the split leaks, and scores on it measure memory; {self.instead}."


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
    label, near = thumbnail_neighbours(split.thumbnails(held), split.thumbnails(train))
    by_thumbnail = np.mean([train[index].label == sample.label for index, sample in zip(label, held, strict=True)])
    return Baselines(
        part=part,
        accuracy={
            "majority": majority(train, held),
            "neighbour_number": neighbour_number(train, held),
            "thumbnail_neighbour": float(by_thumbnail),
        },
        near_duplicates=float(near.mean()),
        instead=advice(split),
    )


def majority(train: Sequence[Sample], held: Sequence[Sample]) -> float:
    """Accuracy of always saying the training part's largest class."""
    largest = Counter(sample.label for sample in train).most_common(1)[0][0]
    return sum(sample.label == largest for sample in held) / len(held)


def neighbour_number(train: Sequence[Sample], held: Sequence[Sample]) -> float | None:
    """Accuracy of the label of the training image whose number is nearest, the lower one of two; None without numbers.

    Of several images with one number, as where each class counts for itself, the label is the commonest among them.
    """
    labels: dict[int, Counter[str]] = {}
    for sample in train:
        if sample.number is None:
            return None
        labels.setdefault(sample.number, Counter())[sample.label] += 1
    numbers = np.array(sorted(labels))
    hits = 0
    for sample in held:
        if sample.number is None:
            return None
        nearest = int(numbers[np.abs(numbers - sample.number).argmin()])
        hits += labels[nearest].most_common(1)[0][0] == sample.label
    return hits / len(held)


def thumbnail_neighbours(
    held: Thumbnails, train: Thumbnails
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """The index of the nearest training thumbnail of each held-out one, and whether any is a near-duplicate."""
    nearest, repeats = [], []
    for _, difference, near in distances(held, train, "holding thumbnails against each other"):
        nearest.append(difference.argmin(axis=1))
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
