"""What is wrong with the images, their labels and their split, as far as it shows without training."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional

from vit_lightning.callbacks.pictures import captioned, enlarged, evenly_spaced, sheet
from vit_lightning.check.finding import Finding
from vit_lightning.data.near_duplicates import SIDE, Thumbnails, distances
from vit_lightning.data.scan import first_few
from vit_lightning.evaluation.baselines import Baselines

Labels = npt.NDArray[np.int64]

#: The largest class over the smallest, from which on the small one is likely to be ignored.
IMBALANCE = 10.0

#: Images whose nearest neighbours' labels are looked at.
NEIGHBOURS = 2000


def check_files(unreadable: dict[str, str], readable: int, *, refuses: bool) -> Finding:
    """Whether every file is a picture.

    Args:
        unreadable: Those that are none, with the reason.
        readable: How many are.
        refuses: Whether `fit` would not begin for them.
    """
    if not unreadable:
        return Finding("ok", "files", f"all {readable:,} images can be read")
    words = f"{len(unreadable):,} files cannot be read: {first_few(unreadable)}"
    if refuses:
        text = f"{words}; fit would not begin: mend them, take them away, or add --data.on_error skip"
        return Finding("failure", "files", text)
    return Finding("warning", "files", f"{words}; they are left out")


def check_balance(counts: Counter[str], *, weighted: bool) -> Finding:
    """How the training images are shared out over the classes.

    Args:
        counts: Training images of each class.
        weighted: Whether the loss makes up for it.
    """
    listed = "to train on: " + ", ".join(f"{name} {count:,}" for name, count in counts.most_common(8))
    if len(counts) > 8:
        listed += f" and {len(counts) - 8} more, down to {min(counts.values()):,}"
    ratio = max(counts.values()) / min(counts.values())
    if ratio > IMBALANCE and not weighted:
        text = (
            f"{listed}; the largest has {ratio:.0f} times as many as the smallest; try --model.class_weights balanced"
        )
        return Finding("warning", "classes", text)
    return Finding("ok", "classes", listed)


def check_split(baselines: Baselines | None) -> Finding:
    """What scores on the validation part would be worth."""
    if baselines is None:
        return Finding("warning", "split", "nothing is held out to validate on; give --data.val_fraction 0.1")
    return Finding("warning" if baselines.leaks else "ok", "split", "; ".join(baselines.lines()))


def check_pictures(clash: str | None) -> Finding:
    """Whether a picture is in two classes.

    Args:
        clash: The line about those that are.
    """
    if clash is not None:
        return Finding("warning", "pictures", clash)
    return Finding("ok", "pictures", "none that trains or validates is in two classes")


def check_labels(thumbnails: Thumbnails, labels: Labels) -> Finding:
    """Whether pictures that look alike have the same label more often than chance would have it.

    A network overfits shuffled labels as well as true ones, so that no training on a few images tells. But with them
    the nearest neighbour's label is right as often as any image's: the sum of the squared shares.

    Args:
        thumbnails: Of the training images, (N, 16, 16, 3).
        labels: Their classes, (N,).
    """
    asked = evenly_spaced(len(labels), NEIGHBOURS)
    nearest = []
    for part, difference, _ in distances(thumbnails[asked], thumbnails):
        difference[np.arange(len(difference)), asked[part]] = np.inf  # not itself
        nearest.append(difference.argmin(axis=1))
    share = float((labels[np.concatenate(nearest)] == labels[asked]).mean())
    chance = chance_agreement(labels)
    error = math.sqrt(chance * (1 - chance) / len(asked))
    words = (
        f"the nearest neighbour on {SIDE}x{SIDE} thumbnails has the same label in {share:.0%}, by chance {chance:.0%}"
    )
    if share < chance + max(3 * error, 0.05 * (1 - chance)):
        text = f"{words}: labels look shuffled, or the classes do not differ at that size; look at samples.png"
        return Finding("warning", "labels", text)
    return Finding("ok", "labels", words)


def draw_samples(plain: Tensor, augmented: Tensor, labels: Sequence[str], path: Path) -> Finding:
    """Draws a few images with their labels, the plain above the augmented, for somebody to look at.

    Args:
        plain: Bytes (N, H, W, 3).
        augmented: The same images, bytes (N, H, W, 3).
        labels: Their classes' names.
        path: The PNG.
    """
    chosen = evenly_spaced(len(plain), 24)
    tiles = [captioned([enlarged(plain[i]), enlarged(augmented[i])], [labels[i]]) for i in chosen]
    sheet(tiles, 8).save(path)
    return Finding(
        "ok", "samples", f"{len(tiles)} images, plain above augmented, are in {path.name}: are their labels right?"
    )


def check_augmentation(plain: Thumbnails, augmented: Thumbnails, labels: Labels) -> Finding:
    """Whether augmented pictures still show what the plain ones do: their nearest plain picture is of their class.

    Thumbnails are compared without their brightness and contrast, and with mirrored ones as well.

    Args:
        plain: (N, 16, 16, 3).
        augmented: The same pictures, (N, 16, 16, 3).
        labels: Their classes, (N,).
    """
    reference = standardised(np.concatenate([plain, plain[:, :, ::-1]]))
    nearest = (standardised(augmented) @ reference.T).argmax(axis=1) % len(plain)
    share = float((labels[nearest] == labels).mean())
    chance = chance_agreement(labels)
    kept = (share - chance) / (1 - chance) if chance < 1 else 1.0
    words = f"the plain picture nearest to an augmented one is of its class in {share:.0%}, by chance {chance:.0%}"
    if kept < 0.3:
        text = f"{words}: too little is left of the pictures; look at samples.png, and try --data.augment light"
        return Finding("failure" if kept < 0.1 else "warning", "augmentation", text)
    return Finding("ok", "augmentation", words)


def check_input(images: Tensor) -> Finding:
    """Whether the model's input is near mean 0 and deviation 1.

    Args:
        images: As the model is given them, (N, C, H, W).
    """
    mean, std = images.mean(dim=(0, 2, 3)).tolist(), images.std(dim=(0, 2, 3)).tolist()
    words = "mean " + " ".join(f"{value:.2f}" for value in mean) + ", deviation " + " ".join(f"{s:.2f}" for s in std)
    far = max(map(abs, mean))
    if not all(map(math.isfinite, mean + std)) or far > 3 or max(std) > 3 or min(std) < 0.02:
        return Finding(
            "failure", "input", f"{words}: expected about 0 and 1; normalise the images, or look for blank ones"
        )
    if far > 2 or max(std) > 2 or min(std) < 0.3:
        return Finding(
            "warning", "input", f"{words}: far from 0 and 1; are the images normalised, and as bright as usual?"
        )
    return Finding("ok", "input", words)


def images_of(dataset: Dataset[tuple[Tensor, int]], chosen: npt.NDArray[np.int64], size: tuple[int, int]) -> Tensor:
    """The chosen images of a dataset, bytes (N, H, W, 3); plain ones are larger where they are to be cropped."""
    frames = [dataset[int(index)][0].permute(2, 0, 1) for index in chosen]
    resized = [functional.resize(frame, list(size), antialias=True) for frame in frames]
    return torch.stack(resized).permute(0, 2, 3, 1)


def thumbnails_of(images: Tensor) -> Thumbnails:
    """Bytes (N, H, W, 3) -> (N, 16, 16, 3)."""
    resized = functional.resize(images.permute(0, 3, 1, 2), [SIDE, SIDE], antialias=True)
    thumbnails: Thumbnails = resized.permute(0, 2, 3, 1).numpy()
    return thumbnails


def standardised(thumbnails: Thumbnails) -> npt.NDArray[np.float32]:
    """Rows (N, 768) of mean 0 and length 1; a thumbnail of one colour has only zeros."""
    rows = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    rows = rows - rows.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    result: npt.NDArray[np.float32] = rows / np.maximum(lengths, 1.0)
    return result


def chance_agreement(labels: Labels) -> float:
    """How often two images have the same label if labels have nothing to do with images."""
    shares = np.bincount(labels) / len(labels)
    return float((shares**2).sum())
