"""Writes what `predict` finds, batch by batch."""

import csv
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from lightning.pytorch import Callback, LightningModule, Trainer

from vit_lightning.inference import top_classes
from vit_lightning.module import Prediction

log = logging.getLogger(__name__)

#: Predictions shown on the terminal; the file has all.
SHOWN = 20


class PredictionWriter(Callback):
    """A CSV with path, label, index, confidence and the next likeliest classes; the first ones also on the terminal.

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

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
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
        batch: Any,  # noqa: ANN401
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
        shares = ", ".join(f"{label} {count}" for label, count in self.counts.most_common())
        log.info("%d images: %s; written to %s", total, shares, self.path)
