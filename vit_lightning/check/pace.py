"""What computes, how fast, and how long the run will take."""

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import LambdaCallback

from vit_lightning.check.finding import Finding
from vit_lightning.data.datamodule import ImageDataModule
from vit_lightning.hardware import device_name
from vit_lightning.module import ViTClassifier
from vit_lightning.progress import track

#: Seconds of the timed training.
TIMED = 8.0


def check_device(trainer: Trainer) -> Finding:
    """What computes, and how precisely."""
    words = f"{device_name(trainer)}, precision {trainer.precision}"
    idle = torch.cuda.is_available() or torch.backends.mps.is_available()
    if trainer.strategy.root_device.type == "cpu":
        words += f", {torch.get_num_threads()} threads"
        if idle:
            return Finding("warning", "device", f"{words}: there is a GPU, too; leave trainer.accelerator out")
    return Finding("ok", "device", words)


@dataclass(frozen=True)
class Pace:
    """How fast a run would be."""

    steps: int  # optimizer steps
    batches: int  # training batches over all epochs
    batch: float  # seconds a training batch
    validations: int  # batches validated over all epochs
    validation: float  # seconds a batch
    images: int  # a batch

    def finding(self) -> Finding:
        """In words."""
        seconds = self.batches * self.batch + self.validations * self.validation
        text = f"{self.images / self.batch:.0f} images/s in training; {self.steps:,} steps and validation take about "
        return Finding("ok", "time", text + duration(seconds))


def length(whole: int, trainer: Trainer) -> tuple[int, int]:
    """The optimizer steps of the run, and an epoch's training batches, of the whole that the images give.

    Raises:
        ValueError: The run has no end.
    """
    limit = trainer.limit_train_batches
    batches = max(1, min(whole, limit) if isinstance(limit, int) else int(whole * (limit or 1.0)))
    ends = [trainer.max_steps] if trainer.max_steps > 0 else []
    if trainer.max_epochs is not None and trainer.max_epochs > 0:
        ends.append(trainer.max_epochs * math.ceil(batches / trainer.accumulate_grad_batches))
    if not ends:
        raise ValueError("the schedule needs to know its end: give trainer.max_epochs or trainer.max_steps")
    return min(ends), batches


def measure(
    model: ViTClassifier, data: ImageDataModule, trainer: Trainer, *, steps: int, batches: int, held_out: int
) -> Pace:
    """Trains for a few seconds with the run's own loader, augmentation and optimizer, and validates a little.

    Args:
        model: A copy of it is trained.
        data: The images.
        trainer: Of the run.
        steps: Of the run, as `length` gives them.
        batches: Of an epoch, as `length` gives them.
        held_out: Images that validate.
    """
    size, device = data.batch_size, trainer.strategy.root_device.type
    # A processor takes ten times as long for ten times the images, and would not get through enough large batches.
    rehearsed = min(size, 32) if device == "cpu" else size
    training, validation = list[float](), list[float]()

    def trained_batch(fitting: Trainer, *_: object) -> None:
        training.append(time.perf_counter())
        advance(1)
        fitting.should_stop = len(training) > 2 and training[-1] - training[0] > TIMED

    # An epoch's start is when its first batch begins.
    stopwatch = LambdaCallback(
        on_train_epoch_start=lambda *_: training.append(time.perf_counter()),
        on_train_batch_end=trained_batch,
        on_validation_epoch_start=lambda *_: validation.append(time.perf_counter()),
        on_validation_batch_end=lambda *_: validation.append(time.perf_counter()),
    )
    with track("measuring how fast it trains", total=30) as advance:
        rehearsal = Trainer(
            accelerator=device,
            devices=1,
            precision=trainer.precision,
            gradient_clip_val=trainer.gradient_clip_val,
            max_epochs=1,
            limit_train_batches=30,
            limit_val_batches=3,
            num_sanity_val_steps=0,
            callbacks=[stopwatch],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        try:
            data.batch_size = rehearsed
            rehearsal.fit(copy.deepcopy(model), datamodule=data)
        finally:
            data.batch_size = size
    scale, trained = size / rehearsed, steps * trainer.accumulate_grad_batches
    return Pace(
        steps=steps,
        batches=trained,
        batch=scale * interval(training),
        validations=round(math.ceil(held_out / size) * trained / batches / (trainer.check_val_every_n_epoch or 1)),
        validation=scale * interval(validation),
        images=size,
    )


def interval(times: Sequence[float]) -> float:
    """Seconds between two of them, on average; the first two are left out where there are more, as things warm up."""
    kept = times[2:] if len(times) > 3 else times
    return (kept[-1] - kept[0]) / (len(kept) - 1) if len(kept) > 1 else 0.0


def duration(seconds: float) -> str:
    """In the unit that suits it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
