"""Pictures of a run, as files and for TensorBoard: what the model is really given, and what it makes of it."""

import math
from collections.abc import Sequence
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.utils.data import Dataset

from vit_lightning.data.transforms import normalise, restored
from vit_lightning.evaluation.attention import attention_of, overlay
from vit_lightning.files import replacing
from vit_lightning.inference import top_classes
from vit_lightning.module import ViTClassifier
from vit_lightning.progress import legible

#: Images on the sheet of training images, and columns.
TRAINING_IMAGES, TRAINING_COLUMNS = 24, 6

#: The same for the held-out images.
HELD_OUT_IMAGES, HELD_OUT_COLUMNS = 8, 4

#: Least width in pixels at which a picture is shown.
SHOWN_WIDTH = 160

#: Height in pixels of a line of text, and the room around pictures.
LINE, MARGIN = 17, 4


class TrainingImages(Callback):
    """A sheet of the first training images with their labels: `train_images.png`, in TensorBoard `train/images`.

    Args:
        folder: The run's folder, which exists.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws those of the first batches, in their order and augmented as the model is about to get them."""
        assert isinstance(pl_module, ViTClassifier)
        if not trainer.is_global_zero or trainer.train_dataloader is None:
            return
        loader = trainer.train_dataloader
        # What an image becomes depends on seed, epoch and index alone, which the sampler gives: the loader, which would
        # start its processes once more for it, need not be asked.
        images = [loader.dataset[key] for key in islice(loader.sampler, TRAINING_IMAGES)]
        batch = normalise(torch.stack([frame for frame, _ in images]), pl_module.net.image_shape[0])
        tiles = [
            captioned([enlarged(frame)], [pl_module.class_names[label]])
            for frame, (_, label) in zip(restored(batch), images, strict=True)
        ]
        picture = sheet(tiles, TRAINING_COLUMNS)
        show(trainer, "train/images", picture)
        first = f"the first training images of epoch {trainer.current_epoch + 1}"  # of a run that goes on a later one
        keep(self.folder / "train_images.png", picture, f"{first}, as the model is given them")


class HeldOutImages(Callback):
    """The same held-out images through training: `val_images.png`, in TensorBoard `val/images`.

    Each with its label, the prediction and its confidence, and below it the attention by rollout, in the epochs of
    `is_looked_at`; the file is the last of them.

    Args:
        folder: The run's folder, which exists.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws them; the model computes once more, without the other processes."""
        assert isinstance(pl_module, ViTClassifier)
        if trainer.sanity_checking or not trainer.is_global_zero or not is_looked_at(trainer):
            return
        dataset = trainer.val_dataloaders.dataset  # type: ignore[union-attr]  # there is one: it is validated
        images = evenly_chosen(dataset, HELD_OUT_IMAGES)
        weight = pl_module.net.head.weight
        frames = torch.stack([frame for frame, _ in images]).to(weight.device)
        given = normalise(frames, pl_module.net.image_shape[0])
        batch = given.to(weight.dtype)
        probabilities = pl_module(batch).float().softmax(dim=-1).cpu()
        attention = attention_of(pl_module.net, batch)
        tiles = []
        for frame, (_, label), shares, weights in zip(
            restored(given).cpu(), images, probabilities, attention, strict=True
        ):
            ((index, name, confidence),) = top_classes(shares, pl_module.class_names, 1)
            verdict = "right" if index == label else f"taken for {name}"
            large = enlarged(frame)
            lines = [pl_module.class_names[label], f"{confidence:.0%}, {verdict}"]  # a name last: it may be cut off
            tiles.append(captioned([large, overlay(large, weights)], lines, wrong=index != label))
        picture = sheet(tiles, HELD_OUT_COLUMNS)
        show(trainer, "val/images", picture)
        epoch = f"held-out images after epoch {trainer.current_epoch + 1}"
        keep(self.folder / "val_images.png", picture, f"{epoch}, and below each what the model attends to")


def watched(trainer: Trainer) -> bool:
    """Whether there is a TensorBoard, and this is no trial before training."""
    return not trainer.sanity_checking and any(isinstance(logger, TensorBoardLogger) for logger in trainer.loggers)


def is_looked_at(trainer: Trainer) -> bool:
    """Whether what costs time is drawn in this epoch: the 1st, 2nd, 4th, 8th, ... that validates, and the last."""
    epoch = trainer.current_epoch + 1
    validations = epoch // (trainer.check_val_every_n_epoch or 1)
    return validations & (validations - 1) == 0 or epoch == trainer.max_epochs


def last_step(trainer: Trainer) -> int:
    """The step that was taken last, at which Lightning logs an epoch's scores."""
    return max(0, trainer.global_step - 1)


def show(trainer: Trainer, name: str, picture: Image.Image) -> None:
    """Puts a picture into TensorBoard."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, np.asarray(picture), last_step(trainer), dataformats="HWC")


def keep(path: Path, picture: Image.Image, title: str) -> None:
    """Writes a picture under its title as a PNG.

    Raises:
        OSError: The folder cannot be written, or the disk is full.
    """
    titled = captioned([torch.from_numpy(np.array(picture))], [title], whole=True)
    with replacing(path) as temporary:
        titled.save(temporary, format="png")


def evenly_chosen(dataset: Dataset[tuple[Tensor, int]], count: int) -> list[tuple[Tensor, int]]:
    """So many images with their labels, at even distances from the first to the last; all of fewer."""
    return [dataset[int(index)] for index in evenly_spaced(len(dataset), count)]  # type: ignore[arg-type]  # ours have a length


def evenly_spaced(length: int, count: int) -> npt.NDArray[np.int64]:
    """At most `count` of the indices below `length`, at even distances: of images sorted by class, all classes."""
    return np.unique(np.linspace(0, length - 1, count).astype(np.int64))


def enlarged(frame: Tensor) -> Tensor:
    """A picture, bytes (H, W, 3), by the least whole factor at which it is `SHOWN_WIDTH` wide."""
    return magnified(frame, math.ceil(SHOWN_WIDTH / frame.shape[1]))


def magnified(frame: Tensor, factor: int) -> Tensor:
    """A picture, bytes (H, W, 3), by a whole factor: its pixels stay what they are."""
    return frame.repeat_interleave(factor, 0).repeat_interleave(factor, 1)


def captioned(
    pictures: Sequence[Tensor], lines: Sequence[str], *, beside: bool = False, wrong: bool = False, whole: bool = False
) -> Image.Image:
    """Pictures under lines of text.

    Args:
        pictures: Bytes (H, W, 3), all of one size.
        lines: What stands above them.
        beside: The pictures beside each other, not below each other.
        wrong: The text is red.
        whole: What is too long for a line goes on in the next, and a tile too narrow for text is wider than its
            pictures; otherwise it is cut off, so that tiles are of one size.
    """
    joined = torch.cat(list(pictures), dim=1 if beside else 0).numpy()
    height, width = joined.shape[:2]
    lines = [legible(line) for line in lines]
    if whole:
        width = max(width, SHOWN_WIDTH)
        lines = [part for line in lines for part in wrapped(line, width)]
    else:
        lines = [cut(line, width) for line in lines]
    tile = Image.new("RGB", (width + 2 * MARGIN, height + LINE * len(lines) + 2 * MARGIN), "white")
    tile.paste(Image.fromarray(joined), (MARGIN, MARGIN + LINE * len(lines)))
    draw = ImageDraw.Draw(tile)
    for row, line in enumerate(lines):
        draw.text((MARGIN, MARGIN + LINE * row), line, fill="#b30000" if wrong else "black", font=font())
    return tile


def cut(line: str, width: int) -> str:
    """A line of text, cut off so that it is no wider in pixels."""
    while font().getlength(line) > width and len(line) > 1:
        line = line.rstrip("…")[:-1] + "…"
    return line


def wrapped(text: str, width: int) -> list[str]:
    """Text in lines that are no wider in pixels, broken after spaces where there are any."""
    lines, line = [], text
    while font().getlength(line) > width and len(line) > 1:
        fitting = next(end for end in range(len(line) - 1, 0, -1) if end == 1 or font().getlength(line[:end]) <= width)
        end = line.rfind(" ", 1, fitting + 1)
        end = fitting if end < 0 else end
        lines.append(line[:end])
        line = line[end:].lstrip(" ")
    return [*lines, line]


def sheet(tiles: Sequence[Image.Image], columns: int) -> Image.Image:
    """Pictures of one size, row by row, on white."""
    width, height = tiles[0].size
    columns = min(columns, len(tiles))
    whole = Image.new("RGB", (width * columns, height * math.ceil(len(tiles) / columns)), "white")
    for place, tile in enumerate(tiles):
        row, column = divmod(place, columns)
        whole.paste(tile, (width * column, height * row))
    return whole


@cache
def font() -> ImageFont.FreeTypeFont:
    """The one that comes with matplotlib: Pillow's own knows Latin letters alone."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 12)
