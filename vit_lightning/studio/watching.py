"""What a run's files say while it trains: epochs, steps, how far it is. No torch in here."""

import math
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vit_lightning.runs import Run, finite, finite_in, read_numbers
from vit_lightning.studio.roots import Place
from vit_lightning.studio.uploads import is_bounded

#: Points of a curve at most: a browser draws no more, and an hour of watching keeps no more.
POINTS = 1000

#: Parts of the baselines, as a status names them.
BASELINES = {"majority": "majority", "neighbour_number": "nearest number", "thumbnail_neighbour": "nearest thumbnail"}

#: What TensorBoard keeps of each kind of event: of pictures and tables nothing is wanted.
KEPT = {"scalars": POINTS, "images": 1, "tensors": 1, "histograms": 1, "audio": 1, "compressedHistograms": 1}


@dataclass(frozen=True)
class Sight:
    """A run as it is now."""

    run: Run
    epochs: list[dict[str, float]]  # rows of history.csv
    rates: list[dict[str, float]]  # rows of learning_rate.csv, thinned out
    losses: list[tuple[int, float]]  # step and loss of a batch
    step: int
    steps_an_epoch: int | None
    baselines: Mapping[str, float] = field(default_factory=dict)

    @property
    def max_epochs(self) -> int | None:
        """How many epochs there will be."""
        number = finite(self.run.status.get("max_epochs"))
        return int(number) if number is not None and number > 0 else None

    @property
    def share_of_epoch(self) -> float:
        """How far the epoch is, in [0, 1]."""
        if not self.steps_an_epoch:
            return 0.0
        done = self.step - len(self.epochs) * self.steps_an_epoch
        return min(1.0, max(0.0, done / self.steps_an_epoch))

    @property
    def share(self) -> float:
        """How far the run is, in [0, 1]."""
        if self.run.state == "finished":
            return 1.0
        if not self.max_epochs:
            return 0.0
        return min(1.0, (len(self.epochs) + self.share_of_epoch) / self.max_epochs)

    @property
    def seconds_left(self) -> float | None:
        """By the epochs that are done: the status counts seconds up to the last one's end."""
        seconds, done = finite(self.run.status.get("seconds")), len(self.epochs)
        if self.run.state != "running" or not done or not seconds or not self.max_epochs:
            return None
        return max(0.0, seconds / done * (self.max_epochs - done - self.share_of_epoch))


class Steps:
    """What a run's files say of single steps; only what is new is read, and no more than a curve needs is kept.

    Args:
        folder: The run's.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        self.events: Any = EventAccumulator(str(folder), size_guidance=KEPT)
        self.path = folder / "learning_rate.csv"
        self.file = self.read = self.done = 0  # which file it is, bytes read of it, and steps that it has
        self.kept: list[dict[str, float]] = []
        self.every = 1  # of so many steps one is kept

    def losses(self) -> list[tuple[int, float]]:
        """Step and loss of a batch, as far as TensorBoard's files have them."""
        try:
            self.events.Reload()
            scalars = self.events.Scalars("train/loss_step")
        except Exception:  # none yet, or a file that somebody else has written
            return []
        return [(int(each.step), float(each.value)) for each in scalars if math.isfinite(each.value)]

    def rates(self) -> list[dict[str, float]]:
        """Rows of `learning_rate.csv`, thinned out."""
        with suppress(OSError, ValueError), self.path.open("rb") as file:
            found = os.fstat(file.fileno())
            if found.st_ino != self.file or found.st_size < self.read:  # a run that goes on writes it anew
                self.file, self.read, self.done, self.kept, self.every = found.st_ino, 0, 0, [], 1
            file.seek(self.read)
            for line in file:
                if not line.endswith(b"\n"):  # is being written
                    break
                self.read += len(line)
                step, _, rate = line.decode().partition(",")
                if step.isdigit():
                    self.done = int(step) + 1
                    if int(step) % self.every == 0:
                        self.kept.append({"step": float(step), "lr": float(rate)})
        while len(self.kept) > POINTS:
            self.every *= 2
            self.kept = [row for row in self.kept if row["step"] % self.every == 0]
        return self.kept


def see(run: Run, steps: Steps | None = None) -> Sight:
    """Reads a run's files.

    Args:
        run: With its status as it is now.
        steps: What was read of its steps before.
    """
    steps = steps or Steps(run.folder)
    baselines = run.status.get("baselines") or {}
    found = {words: finite_in(baselines, name) for name, words in BASELINES.items()}
    return Sight(
        run=run,
        epochs=read_numbers(run.folder / "history.csv"),
        rates=steps.rates(),
        losses=steps.losses(),
        step=steps.done,
        steps_an_epoch=steps_of(run),
        baselines={name: score for name, score in found.items() if score is not None},
    )


def steps_of(run: Run) -> int | None:
    """Optimizer steps of an epoch, by the record and the config."""
    settings = run.quick_settings()
    images, batch = finite_in(run.status.get("split"), "train"), number(settings.get("data.batch_size"))
    if not images or not batch:
        return None
    batches = math.ceil(images / batch)
    limit = number(settings.get("trainer.limit_train_batches"))
    if limit:
        batches = min(batches, int(limit)) if limit > 1 or limit == int(limit) else max(1, int(batches * limit))
    return math.ceil(batches / (number(settings.get("trainer.accumulate_grad_batches")) or 1))


def number(text: str | None) -> float | None:
    """A number of a config's line."""
    return float(text) if text and re.fullmatch(r"\d+(\.\d+)?(e-?\d+)?", text) else None


def pictures_of(run: Run, place: Place) -> list[Path]:
    """The pictures of a run that are there; its curves are drawn live."""
    names = ("val_images.png", "train_images.png")
    return [path for name in names if (path := place.file_of(run, name)) is not None and is_bounded(path)]


def last_points(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Points of a curve, the latest of those with one step: a run that goes on repeats some."""
    return list(dict(points).items())
