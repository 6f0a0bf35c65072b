"""Writes what `predict` finds, batch by batch."""

import csv
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from vit_lightning.callbacks.pictures import captioned
from vit_lightning.data.frames import load_frame
from vit_lightning.data.scan import write_unreadable
from vit_lightning.evaluation.attention import attention_of, overlay
from vit_lightning.inference import top_classes
from vit_lightning.module import Prediction, ViTClassifier

log = logging.getLogger(__name__)

#: Predictions shown on the terminal; the file has all.
SHOWN = 20

#: Unreadable files named on the terminal, likewise.
NAMED = 5

#: Longest side in pixels of a picture that is shown with the attention.
LONGEST = 480


class PredictionWriter(Callback):
    """A CSV with path, label, index, confidence and the next likeliest classes; the first ones also on the terminal.

    A file that cannot be read has no row there, so that every row is a label. All such files are in a second CSV,
    path,reason, which is there only where there are any: `0001.unreadable.csv` beside `0001.csv`.

    Args:
        path: The CSV file.
        class_names: Names of the classes.
        attention: Also draw each image with the attention over it, as `0001-attention/00001-NAME.png` beside
            `0001.csv`; the number is that of the row.
    """

    def __init__(self, path: Path, class_names: Sequence[str], *, attention: bool = False) -> None:
        self.path = path
        self.class_names = class_names
        self.attention = attention
        self.counts: Counter[str] = Counter()
        self.file: TextIO | None = None
        self.shown: list[tuple[str, str]] = []
        #: How many files could not be read, and the first of them with the reason.
        self.unreadable = 0
        self.named: dict[str, str] = {}

    @property
    def unreadable_path(self) -> Path:
        """The CSV of the files that could not be read."""
        return self.path.with_suffix(".unreadable.csv")

    @property
    def attention_folder(self) -> Path:
        """The folder of the pictures with the attention over them."""
        return self.path.with_name(f"{self.path.stem}-attention")

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.unreadable_path.unlink(missing_ok=True)  # of an earlier command with the same --output
        if self.attention:
            self.attention_folder.mkdir(exist_ok=True)
            for picture in self.attention_folder.glob("[0-9][0-9][0-9][0-9][0-9]*-*.png"):
                picture.unlink()
        self.file = self.path.open("w", newline="", encoding="utf-8")
        header = ["path", "label", "index", "confidence"]
        for rank in range(2, min(3, len(self.class_names)) + 1):
            header += [f"label_{rank}", f"confidence_{rank}"]
        csv.writer(self.file, lineterminator="\n").writerow(header)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Prediction,
        batch: Any,  # noqa: ANN401  # Lightning's signature
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Writes one batch."""
        assert self.file is not None, "on_predict_start comes first"
        if self.attention:
            self.draw(pl_module, outputs, batch)
        writer = csv.writer(self.file, lineterminator="\n")
        for path, probabilities in zip(outputs["path"], outputs["probabilities"].cpu(), strict=True):
            (index, label, confidence), *others = top_classes(probabilities, self.class_names)
            row = [path, label, index, f"{confidence:.6f}"]
            for _, other, probability in others:
                row += [other, f"{probability:.6f}"]
            writer.writerow(row)
            if self.counts.total() < SHOWN:
                rest = ", ".join(f"{other} {probability:.1%}" for _, other, probability in others)
                name = "/".join(Path(path).parts[-2:])
                self.shown.append((name, f"{label} ({index}) {confidence:.1%}, then {rest}"))
            self.counts[label] += 1
        unreadable = outputs["unreadable"]
        if unreadable:
            write_unreadable(self.unreadable_path, unreadable, append=self.unreadable > 0)
            self.unreadable += len(unreadable)
            self.named |= dict(list(unreadable.items())[: NAMED - len(self.named)])

    def draw(self, pl_module: LightningModule, outputs: Prediction, batch: tuple[Tensor, list[str], list[str]]) -> None:
        """Draws one batch: each picture in its own shape, and once more with the attention over it."""
        assert isinstance(pl_module, ViTClassifier)
        images, _, reasons = batch
        readable = torch.tensor([not reason for reason in reasons], device=images.device)
        found = zip(outputs["path"], outputs["probabilities"].cpu(), strict=True)
        for row, ((path, probabilities), attention) in enumerate(
            zip(found, attention_of(pl_module.net, images[readable]), strict=True), self.counts.total() + 1
        ):
            picture = load_frame(path, shown_size)
            likeliest = top_classes(probabilities, self.class_names)
            text = ", ".join(f"{label} {share:.1%}" for _, label, share in likeliest)
            pieces = [picture, overlay(picture, attention)]
            drawn = captioned(pieces, [text, Path(path).name], beside=picture.shape[0] > picture.shape[1])
            # A name may be 255 bytes long, which those of 60 letters are not.
            drawn.save(self.attention_folder / f"{row:05}-{Path(path).stem[:60]}.png", compress_level=1)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Keeps what was written so far."""
        if self.file is not None:
            self.file.close()
            log.warning("broken off after %d images; their labels are in %s", self.counts.total(), self.path)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Closes the file and says what is in it."""
        if self.file is not None:
            self.file.close()
        width = max((len(name) for name, _ in self.shown), default=0)
        for name, text in self.shown:
            log.info("%s", f"{name:{width}}  {text}")
        total = self.counts.total()
        if total > SHOWN:
            log.info("... and %d more", total - SHOWN)
        if total:
            shares = ", ".join(f"{label} {count}" for label, count in self.counts.most_common())
            log.info("%d images: %s; written to %s", total, shares, self.path)
            if self.attention:
                log.info("drawn with the attention over them in %s", self.attention_folder)
        self.tell_unreadable()

    def tell_unreadable(self) -> None:
        """Says which files have no label, if any."""
        if self.unreadable == 1:
            ((path, reason),) = self.named.items()
            log.error("%s has no label: %s", path, reason)
        elif self.unreadable:
            for path, reason in self.named.items():
                log.warning("%s has no label: %s", path, reason)
            log.error(
                "%d of %d files could not be read and have no label; all are listed in %s",
                self.unreadable,
                self.unreadable + self.counts.total(),
                self.unreadable_path,
            )


def shown_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of a picture of this size where it is shown: no larger than it is, nor than `LONGEST`."""
    scale = min(1.0, LONGEST / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))
