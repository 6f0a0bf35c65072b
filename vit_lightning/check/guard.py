"""How far from held-out frames training has to end: where two frames' labels have no more to do with each other."""

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from vit_lightning.check.data import Labels, chance_agreement
from vit_lightning.check.finding import Finding
from vit_lightning.data.index import Sample
from vit_lightning.data.labels import relabelled
from vit_lightning.data.splitting import Split, divide, list_images

#: Distances in frame numbers at which the agreement of labels is measured.
LAGS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240, 360)

#: Labels that agree by more than so much above chance still have to do with each other.
NEAR = 0.05

#: Longer blocks are advised where there would be so many of them.
LEAST_BLOCKS = 10

#: Rising frame numbers (N,) and labels (N,) of one sequence of frames.
Video = tuple[npt.NDArray[np.int64], Labels]


def check_guard(split: Split) -> Finding:
    """Whether the guard of a split of blocks reaches to where the labels of two frames agree as by chance.

    It names the smallest of `LAGS` where they do, at most a quarter of a block, and what that costs in training frames.

    Args:
        split: Of kind `blocks`.
    """
    listing = list_images(split.root, split.settings)
    samples = [sample for sample in listing.samples if sample.path not in split.unreadable]  # those in the guards, too
    depth = len(listing.layout.parts[""].relative_to(split.root).parts) + 1
    length, guard = split.settings.block_length, split.settings.guard
    labels = listing.labels
    labelled = relabelled(samples, labels)
    found, most = Agreement(find_videos(labelled, split.class_names, depth), length), length // 4
    reach = max(1, most, len(samples) // (4 * LEAST_BLOCKS))
    lags = [lag for lag in LAGS if lag <= reach and found.knows(lag)]
    if not lags:
        text = (
            "not measured: frame numbers repeat, or go by class; if every folder in a class is a clip, take "
            "--data.split groups --data.group_by folder"
        )
        return Finding("warning", "guard", text)
    enough = next((lag for lag in lags if found.near(lag)), None)
    if enough is not None and guard >= (enough if enough > 1 else 0):  # without a guard the nearest is 1 apart
        return Finding("ok", "guard", f"{guard}; {found.words(enough)}")
    words = f"{guard}; {found.words(max(guard, 1), enough or lags[-1])}"
    if enough is not None and enough <= most:
        text = f"{words}: raise --data.guard to {enough} ({cost(split, samples, labels, enough)})"
        return Finding("warning", "guard", text)
    if enough is not None:
        advice = f"set --data.block_length {4 * enough} --data.guard {enough}"
    else:
        advice = "raise --data.block_length or, if numbers go by class, take another --data.split"
    if guard < most:
        price = cost(split, samples, labels, most)
        advice = f"raise --data.guard to {most}, a quarter of a block ({price}), or rather {advice}"
    return Finding("warning", "guard", f"{words}: {advice}")


@dataclass(frozen=True)
class Agreement:
    """How often two frames have the same label, by how far their numbers are apart.

    Args:
        videos: Sequences of frames.
        block_length: Frames in a block.
    """

    videos: Sequence[Video]
    block_length: int

    @cached_property
    def chance(self) -> float:
        """How often they would if labels had nothing to do with numbers."""
        return chance_agreement(np.concatenate([labels for _, labels in self.videos]))

    @cached_property
    def by_clip(self) -> bool:
        """Whether blocks end where clips do: neighbours agree less there, by more than chance and by half."""
        agree, across = self.pairs(1)
        if across.all() or not across.any():
            return False
        share, count = float(agree.mean()), int(across.sum())
        error = math.sqrt(share * (1 - share) * (1 / count + 1 / (len(agree) - count)))
        within, border = float(agree[~across].mean()), float(agree[across].mean())
        return border < within - max(3 * error, (within - self.chance) / 2)

    def pairs(self, lag: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Of each frame and the next that is at least `lag` away: whether labels agree, whether blocks differ, (P,)."""
        agree, across = [np.zeros(0, dtype=bool)], [np.zeros(0, dtype=bool)]
        for numbers, labels in self.videos:
            second = np.searchsorted(numbers, numbers + lag)
            first = np.flatnonzero(second < len(numbers))
            second = second[first]
            agree.append(labels[first] == labels[second])
            across.append(numbers[first] // self.block_length != numbers[second] // self.block_length)
        return np.concatenate(agree), np.concatenate(across)

    def at(self, lag: int) -> tuple[float, float]:
        """Which share agrees at a lag, and how far from chance it may be and count as near.

        A frame that trains and one that is held out are in two blocks, so that pairs across a border are what counts.
        Where blocks are cut out of a video as it comes, pairs within say the same, and there are many more of them.
        """
        agree, across = self.pairs(lag)
        near = NEAR
        if self.by_clip:
            agree = agree[across]
            # The pairs at one border, as many as the lag, stand or fall together.
            independent = max(1, len(agree) / min(lag, self.block_length))
            near = max(near, 2 * math.sqrt(self.chance * (1 - self.chance) / independent))
        return float(agree.mean()), near

    def near(self, lag: int) -> bool:
        """Whether labels agree as by chance at a lag."""
        share, near = self.at(lag)
        return share <= self.chance + near

    def knows(self, lag: int) -> bool:
        """Whether there are frames so far apart."""
        agree, across = self.pairs(lag)
        return bool(across.any() if self.by_clip else len(agree))

    def words(self, *lags: int) -> str:
        """The shares at these lags, those that are known."""
        where = " across the blocks' borders" if self.by_clip else ""
        shares = [f"{lag} apart in {self.at(lag)[0]:.0%}" for lag in dict.fromkeys(lags) if self.knows(lag)]
        return f"labels of two frames agree by chance in {self.chance:.0%}, {', '.join(shares)}{where}"


def find_videos(samples: Sequence[Sample], classes: Sequence[str], depth: int) -> list[Video]:
    """The sequences of frames; none where numbers do not tell them.

    All files are one video, as for the split, unless numbers repeat. Then a sequence is what has the same name but for
    the number, in whichever class; it is none if numbers repeat in there. If each has one class, there is nothing to
    tell.

    Args:
        samples: The frames.
        classes: Names of the classes.
        depth: So many folders of each path lead to the class's own, which counts.
    """
    sequences: dict[str, list[Sample]] = {"": list(samples)}
    if repeats(samples):
        sequences = defaultdict(list)
        for sample in samples:
            name = "/".join(sample.path.split("/")[depth:]).rpartition(".")[0]
            sequences[re.sub(r"\d+(?=\D*$)", "#", name)].append(sample)
        one_class = all(len({sample.label for sample in members}) == 1 for members in sequences.values())
        if one_class or any(repeats(members) for members in sequences.values()):
            return []
    videos = []
    for members in sequences.values():
        frames = sorted((sample.number or 0, classes.index(sample.label)) for sample in members)
        numbers, labels = np.array(frames, dtype=np.int64).T
        videos.append((numbers, labels))
    return videos


def repeats(samples: Sequence[Sample]) -> bool:
    """Whether two have the same number."""
    return len({sample.number for sample in samples}) < len(samples)


def cost(split: Split, samples: list[Sample], labels: dict[str, str], guard: int) -> str:
    """How many frames fewer would train with another guard."""
    before = len(split.part("train"))
    try:
        settings = replace(split.settings, guard=guard)
        trial = divide(samples, split.kind, split.root, settings, labels=labels, tell=False)
    except ValueError:  # frames around repeated clips are all that is left
        return "which leaves nothing to train or to validate on"
    return f"{before - sum(sample.split == 'train' for sample in trial):,} of {before:,} training frames fewer"
