"""Single pictures of a report: mistakes, hits and doubtful labels, with the attention over them."""

from __future__ import annotations

import base64
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vit_lightning.progress import track

if TYPE_CHECKING:
    from PIL import Image

    from vit_lightning.data.index import Sample
    from vit_lightning.evaluation.metrics import Outcome
    from vit_lightning.models.vit import VisionTransformer

log = logging.getLogger(__name__)

#: Pixels that the longer side of a picture in the page has at most: two of them stand side by side.
PICTURE_SIZE = 320

#: The same of a training image beside a mistake.
NEIGHBOUR_SIZE = 160


@dataclass(frozen=True)
class Neighbour:
    """A training image that the network takes for much the same as an image.

    Args:
        path: Relative to the data's root.
        label: Its class.
        group: Its clip or other group, or ''.
        similarity: The cosine of the two embeddings.
        picture: As a small JPEG; None where it cannot be read any more.
    """

    path: str
    label: str
    group: str
    similarity: float
    picture: bytes | None = None

    @property
    def source(self) -> str:
        """The picture as a `data:` address."""
        return address(self.picture)


@dataclass(frozen=True)
class Case:
    """One image and what the model said of it, to be shown.

    Args:
        path: Of the image, relative to the data's root.
        true: Its class.
        said: The model's.
        confidence: The probability that the model gave that class.
        picture: The image and the attention over it, side by side, as a JPEG, or the image alone; None where it cannot
            be read any more.
        trouble: Why it cannot; nothing is said of each where all of them are elsewhere.
        neighbours: The training images that the network takes for much the same, the nearest first.
    """

    path: str
    true: str
    said: str
    confidence: float
    picture: bytes | None = None
    trouble: str = ""
    neighbours: tuple[Neighbour, ...] = ()

    @property
    def source(self) -> str:
        """The picture as a `data:` address."""
        return address(self.picture)


def address(picture: bytes | None) -> str:
    """A JPEG as a `data:` address."""
    return "data:image/jpeg;base64," + base64.b64encode(picture or b"").decode()


def look_at(outcome: Outcome, indices: Sequence[int], net: VisionTransformer | None, root: Path | None) -> list[Case]:
    """These images, with the model's attention over them where there is a network."""
    names, chosen = outcome.class_names, []
    for index in indices:
        said = int(outcome.predicted[index])
        true, sure = names[int(outcome.labels[index])], float(outcome.probabilities[index, said])
        chosen.append(Case(outcome.paths[index], true, names[said], sure))
    return with_pictures(chosen, net, root)


def with_neighbours(
    case: Case, near: Sequence[tuple[Sample, float]], root: Path | None, size: int = NEIGHBOUR_SIZE
) -> Case:
    """The same with training images, given with their similarity, and their pictures where they are still there."""
    found = []
    for sample, similarity in near:
        picture = None
        if root is not None:
            with suppress(OSError):
                picture = picture_of(root / sample.path, None, size)
        found.append(Neighbour(sample.path, sample.label, sample.group, similarity, picture))
    return replace(case, neighbours=tuple(found))


def with_pictures(cases: Sequence[Case], net: VisionTransformer | None, root: Path | None) -> list[Case]:
    """The same with their pictures, and the attention over them where there is a network; says which are gone."""
    there, found = root is not None and root.is_dir(), []
    with track(f"looking once more at {len(cases)} images, for the report", total=len(cases)) as advance:
        for case in cases:
            picture, trouble = None, ""
            try:
                if root is not None and there:
                    picture = picture_of(root / case.path, net)
            except FileNotFoundError:
                trouble = "The file is no longer there."
            except OSError:
                trouble = "The file can no longer be read."
            found.append(replace(case, picture=picture, trouble=trouble))
            advance(1)
    gone = [case.path for case in found if case.picture is None]
    if gone and there:
        log.warning("%d of the report's %d pictures cannot be read any more: %s", len(gone), len(found), gone[0])
    elif gone:
        where = f"they are no longer in {root}" if root else "it is not known where they are"
        log.warning("the report names images and shows none: %s", where)
    return found


def picture_of(path: Path, net: VisionTransformer | None, size: int = PICTURE_SIZE) -> bytes:
    """An image at its own aspect, and beside it the attention of a network over it, as a JPEG.

    Raises:
        OSError: It is missing or no readable picture.
    """
    from PIL import Image

    from vit_lightning.data.images import load_image

    picture = load_image(path)
    picture.thumbnail((size, size), Image.Resampling.LANCZOS)
    times = size // 2 // max(picture.size)
    if times > 1:  # a browser would blur what it enlarges
        picture = picture.resize((times * picture.width, times * picture.height), Image.Resampling.NEAREST)
    shown = picture if net is None else side_by_side(picture, with_attention(picture, path, net))
    file = BytesIO()
    shown.save(file, "JPEG", quality=80)
    return file.getvalue()


def with_attention(picture: Image.Image, path: Path, net: VisionTransformer) -> Image.Image:
    """The same picture with the attention over it, of the network that is given the whole image at its own size."""
    import torch
    from PIL import Image

    from vit_lightning.data.frames import load_frame
    from vit_lightning.data.transforms import frame_size, normalise
    from vit_lightning.evaluation.attention import attention_of, overlay

    frame = load_frame(path, frame_size(net.image_shape[1:]))
    attention = attention_of(net, normalise(frame[None], net.image_shape[0]), kind="rollout")[0]
    return Image.fromarray(overlay(torch.from_numpy(np.array(picture)), attention).numpy())


def side_by_side(left: Image.Image, right: Image.Image) -> Image.Image:
    """Two pictures of one size in one; wide ones below each other."""
    from PIL import Image

    width, height = left.size
    gap = 4
    below = width > 2 * height
    both = Image.new("RGB", (width, 2 * height + gap) if below else (2 * width + gap, height), "white")
    both.paste(left, (0, 0))
    both.paste(right, (0, height + gap) if below else (width + gap, 0))
    return both


def save_pictures(folder: Path, cases: Sequence[Case]) -> None:
    """The cases' pictures as `01.jpg`, ... in place of those of an earlier report."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob("[0-9][0-9].jpg"):
        old.unlink()
    for number, case in enumerate(cases, start=1):
        if case.picture is not None:
            (folder / f"{number:02}.jpg").write_bytes(case.picture)
