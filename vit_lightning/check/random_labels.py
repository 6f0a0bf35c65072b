"""Whether held-out images can be told by memory: what a network learns of labels that mean nothing.

Zhang et al. 2017, "Understanding deep learning requires rethinking generalization", train on random labels; here a
whole clip has one, so that who recognises the clip knows it. On an honest split nobody can do better than chance.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vit_lightning.check.finding import Finding
from vit_lightning.check.network import SMALL_BATCH, Workbench
from vit_lightning.data.index import Sample
from vit_lightning.data.near_duplicates import Thumbnails, duplicate_groups
from vit_lightning.evaluation.compare import joined_groups
from vit_lightning.progress import track

#: Seconds of training, and passes over the images: at most, and what it takes to learn them.
TRAINING, ROUNDS, ENOUGH = 120.0, 200, 30

#: Clips that validate, images of one that do and that train, and images that train where there are as many.
CLIPS, HELD, TRAINED, IMAGES = 60, 8, 8, 240

#: Orders of the labels that the true one is held against, and the p below which a split leaks.
ORDERS, LEVEL = 9_999, 0.01

Numbers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Shuffled:
    """Images with labels that mean nothing.

    Args:
        train: Indices among the training images, (N,).
        val: Indices among the validation images, (M,).
        train_labels: (N,).
        val_labels: (M,).
        clips: Of the validation images, from 0, (M,).
    """

    train: Numbers
    val: Numbers
    train_labels: Numbers
    val_labels: Numbers
    clips: Numbers


def clips_of(samples: Sequence[Sample], thumbnails: Thumbnails, block_length: int) -> Numbers:
    """The clip of each image, (N,): what shares the split's group, or as many frame numbers, or looks the same.

    Args:
        samples: Of all parts.
        thumbnails: Theirs, (N, 16, 16, 3).
        block_length: Frames in a block.
    """
    names = [sample.group for sample in samples]
    if not any(names):
        names = ["" if sample.number is None else str(sample.number // block_length) for sample in samples]
    return joined_groups(names, [str(group) for group in duplicate_groups(thumbnails)])


def shuffle(train: Numbers, val: Numbers, classes: int, most: int = IMAGES, seed: int = 0) -> Shuffled:
    """Draws the images, and a label for every clip.

    Args:
        train: The clip of each training image, (N,).
        val: Of each validation image.
        classes: How many labels there are.
        most: Images of training, about.
        seed: Of the draw.
    """
    rng = np.random.default_rng(seed)
    label = rng.permutation(np.arange(max(train.max(), val.max()) + 1) % classes)
    held: list[int] = []
    learned: list[int] = []
    for clip in rng.permutation(np.unique(val))[:CLIPS].tolist():
        if len(learned) < most:
            held.append(clip)
            learned += rng.permutation(np.flatnonzero(train == clip))[:TRAINED].tolist()
    label[held] = rng.permutation(np.arange(len(held)) % classes)  # few clips have all labels, too
    for clip in rng.permutation(np.setdiff1d(np.unique(train), held)):
        if len(learned) < min(most, IMAGES):
            learned += rng.permutation(np.flatnonzero(train == clip))[:TRAINED].tolist()
    taken = np.array(learned, dtype=np.int64)
    chosen = np.concatenate([rng.permutation(np.flatnonzero(val == clip))[:HELD] for clip in held])
    return Shuffled(
        taken, chosen, label[train[taken]], label[val[chosen]], np.unique(val[chosen], return_inverse=True)[1]
    )


def affordable(workbench: Workbench, shape: Sequence[int]) -> int:
    """How many images of a shape (C, H, W) the network can learn in the time there is, by the time of two steps."""
    net, optimizer = workbench.copy({})
    images, labels = workbench.to_device(torch.zeros(SMALL_BATCH, *shape), torch.zeros(SMALL_BATCH, dtype=torch.long))
    steps = islice(workbench.rounds(net, optimizer, images, labels, 0.0), 3)
    next(steps)  # the first one takes longer
    began = time.monotonic()
    count = len(list(steps))
    return max(SMALL_BATCH, int(TRAINING / ENOUGH * count * SMALL_BATCH / (time.monotonic() - began)))


def check_random_labels(workbench: Workbench, images: tuple[Tensor, Tensor], drawn: Shuffled, lr: float) -> Finding:
    """Trains on labels that were shuffled by clip, and holds the score on the validation images against chance.

    Args:
        workbench: The network.
        images: Of training and of validation, (N, C, H, W) and (M, C, H, W), normalised.
        drawn: Their labels.
        lr: The run's learning rate.
    """
    net, optimizer = workbench.copy({"lr": lr})
    x, y = workbench.to_device(images[0], torch.from_numpy(drawn.train_labels))
    began, known = time.monotonic(), 0.0
    with track("learning labels that mean nothing", total=ROUNDS) as advance:
        for right, mean, _ in islice(workbench.rounds(net, optimizer, x, y, lr), ROUNDS):
            known = right / len(x)
            advance(1)
            if known > 0.95 or time.monotonic() - began > TRAINING or not math.isfinite(mean):
                break
    (held,) = workbench.to_device(images[1])
    net.eval()  # batch normalisation, too
    with torch.no_grad():
        said = [
            net(held[start : start + SMALL_BATCH]).float().softmax(dim=1).cpu()
            for start in range(0, len(held), SMALL_BATCH)
        ]
    return judge(known, torch.cat(said).numpy().astype(np.float64), drawn)


def judge(known: float, probabilities: Floats, drawn: Shuffled) -> Finding:
    """What the answers on validation images say of the split.

    An exact test: the labels of the validation clips were drawn by lot, so that any other order of them is as likely
    where nothing is known of these clips. The statistic is the mean probability of an image's label.

    Args:
        known: The share of training images whose label was learnt.
        probabilities: Of the validation images, (M, K).
        drawn: The labels.
    """
    clips, labels = np.arange(drawn.clips.max() + 1), np.arange(probabilities.shape[1])
    of_clip = np.zeros(len(clips), dtype=np.int64)
    of_clip[drawn.clips] = drawn.val_labels
    sums, hits = (np.zeros((len(clips), len(labels))) for _ in range(2))
    np.add.at(sums, drawn.clips, probabilities)
    np.add.at(hits, (drawn.clips, probabilities.argmax(axis=1)), 1.0)
    rng = np.random.default_rng(0)
    orders = rng.permuted(np.broadcast_to(of_clip, (ORDERS, len(clips))), axis=1)  # P C
    by_lot = sums[clips, orders].sum(axis=1)
    as_good = int((by_lot >= sums[clips, of_clip].sum() - 1e-9).sum())
    p = (1 + as_good) / (1 + ORDERS)
    share, chance = (hits[clips, each].sum(axis=-1).mean() / len(drawn.val) for each in (of_clip, orders))
    words = f"shuffled by clip: {share:.0%} of val after learning {known:.0%} of train; by chance {chance:.0%}"
    if fewest(of_clip) > LEVEL:
        return Finding("warning", "random labels", f"{words}: val has too few clips ({len(clips)}) to say anything")
    if p < LEVEL:
        text = (
            f"{words} (p {p:.2g}): val shows what was trained on, and its score measures memory; hold whole clips out, "
            "as with --data.split blocks or groups"
        )
        return Finding("failure", "random labels", text)
    if known < 2 * chance and known < 0.9:
        text = f"{words}: too little was learnt in {TRAINING:.0f} seconds to say whether val can be told by memory"
        return Finding("warning", "random labels", text)
    return Finding("ok", "random labels", f"{words} (p {p:.2g}): val cannot be told by memory")


def fewest(labels: Numbers) -> float:
    """The smallest p there is: one order among all different ones of these labels (C,)."""
    repeats = [math.lgamma(count + 1) for count in np.bincount(labels)]
    return math.exp(sum(repeats) - math.lgamma(len(labels) + 1))
