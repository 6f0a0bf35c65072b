"""Whether an exported file says what `predict` says: the gate that an export has to pass."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from vit_lightning.data.frames import load_frame
from vit_lightning.data.images import load_image
from vit_lightning.data.transforms import frame_size, normalise
from vit_lightning.module import ViTClassifier

#: By how much a probability may differ; a label may where the two likeliest classes are nearer than twice that.
TOLERANCE = 1e-4

#: Heights and widths of pictures that are made up, beside the model's own.
SIZES = ((1, 1), (1, 7), (3, 2), (17, 31), (240, 320), (37, 1000), (1080, 1920), (4000, 3000))

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

#: From pictures (B, h, w, 3) of one size to probabilities (B, K).
Classifier = Callable[[Bytes], Floats]


@dataclass
class Parity:
    """How far an exported file's answers are from `predict`'s.

    Args:
        tolerance: By how much a probability may differ.
    """

    tolerance: float = TOLERANCE
    pictures: int = 0
    largest: float = 0.0
    mean: float = 0.0
    other_labels: int = 0
    #: The first picture that differs by too much, in words.
    failed: str = ""
    #: What the smaller decoding of large JPEGs adds, which is `predict`'s own: the largest difference and other labels.
    reduced: dict[str, float] = field(default_factory=dict)
    #: What was exported says of each picture from a file: probabilities (K,).
    answers: list[Floats] = field(default_factory=list)

    def add(self, name: str, ours: Floats, theirs: Floats) -> None:
        """Compares the probabilities (K,) of one picture."""
        apart = float(np.abs(ours - theirs).max())
        apart = apart if np.isfinite(apart) else float("inf")
        second, first = np.sort(ours)[-2:]
        other = bool(ours.argmax() != theirs.argmax()) and first - second > 2 * self.tolerance
        self.mean = (self.mean * self.pictures + apart) / (self.pictures + 1)
        self.pictures += 1
        self.largest = max(self.largest, apart)
        self.other_labels += other
        if not self.failed and (apart > self.tolerance or other):
            self.failed = f"{name} by {apart:.2g}{' and has another label' if other else ''}"

    def record(self) -> dict[str, Any]:
        """What `parity.json` says."""
        told = {"passed": not self.failed, "tolerance": self.tolerance, "pictures": self.pictures}
        told |= {"largest": self.largest, "mean": self.mean, "other_labels": self.other_labels}
        return told | {"reduced_decoding": self.reduced}


def as_predicted(model: ViTClassifier, pictures: Bytes) -> Floats:
    """What `predict` makes of decoded pictures (B, h, w, 3): probabilities (B, K)."""
    channels, height, width = model.net.image_shape
    frames = functional.resize(torch.from_numpy(pictures).permute(0, 3, 1, 2), [height, width], antialias=True)
    return probabilities(model, normalise(frames.permute(0, 2, 3, 1), channels))


@torch.inference_mode()
def probabilities(model: ViTClassifier, images: Tensor) -> Floats:
    """Of normalised images (B, C, H, W)."""
    found: Floats = model(images).softmax(dim=-1).numpy()
    return found


def hold_against(
    model: ViTClassifier, exported: Classifier, paths: Iterable[Path], tolerance: float = TOLERANCE
) -> Parity:
    """Compares an exported classifier with `predict` on pictures from files and on made-up ones of many sizes.

    Args:
        model: From `load_classifier`.
        exported: What was made of it.
        paths: Files; one that cannot be read is passed over.
        tolerance: By how much a probability may differ.
    """
    found = Parity(tolerance)
    _, height, width = model.net.image_shape
    for name, pictures in made_up((height, width)):
        for ours, theirs in zip(as_predicted(model, pictures), exported(pictures), strict=True):
            found.add(name, ours, theirs)
    size, changed, largest, labels = frame_size((height, width)), 0, 0.0, 0
    for path in paths:
        try:
            picture, frame = np.array(load_image(path))[None], load_frame(path, size)
        except OSError:
            continue
        theirs = exported(picture)[0]
        found.answers.append(theirs)
        found.add(str(path), as_predicted(model, picture)[0], theirs)
        quick = probabilities(model, normalise(frame[None], model.net.image_shape[0]))[0]
        apart = float(np.abs(quick - theirs).max())
        changed, largest = changed + (apart > found.tolerance), max(largest, apart)
        labels += int(quick.argmax() != theirs.argmax())
        found.reduced = {"pictures": changed, "largest": largest, "other_labels": labels}
    return found


def made_up(own: tuple[int, int]) -> Iterator[tuple[str, Bytes]]:
    """Names and pictures (2, h, w, 3) of every size: waves of all lengths, and noise."""
    rng = np.random.default_rng(0)
    for height, width in (own, *SIZES):
        noise = rng.integers(0, 256, (height, width, 3))
        phases = rng.uniform(0, 9, 3) + rng.uniform(1, 40, 3) * (
            np.linspace(0, 1, height)[:, None, None] + np.linspace(0, 1, width)[None, :, None]
        )
        waves = 127.5 + 127.5 * np.sin(phases)
        yield f"a made-up picture of {height}x{width}", np.stack([waves, noise]).astype(np.uint8)
