"""Writes what `predict` finds, batch by batch."""

import csv
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from lightning.pytorch import Callback, LightningModule, Trainer

from vit_lightning.data.scan import write_unreadable
from vit_lightning.inference import top_classes
from vit_lightning.module import Prediction

log = logging.getLogger(__name__)

#: Predictions shown on the terminal; the file has all.
SHOWN = 20

#: Unreadable files named on the terminal, likewise.
NAMED = 5


class PredictionWriter(Callback):
    """A CSV with path, label, index, confidence and the next likeliest classes; the first ones also on the terminal.

    A file that cannot be read has no row there, so that every row is a label. All such files are in a second CSV,
    path,reason, which is there only where there are any: `0001.unreadable.csv` beside `0001.csv`.

    Args:
        path: The CSV file.
        class_names: Names of the classes.
    """

    def __init__(self, path: Path, class_names: Sequence[str]) -> None:
        self.path = path
        self.class_names = class_names
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

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.unreadable_path.unlink(missing_ok=True)  # of an earlier command with the same --output
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
