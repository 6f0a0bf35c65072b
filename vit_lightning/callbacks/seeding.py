"""The random numbers of a training step follow from the step alone."""

from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from vit_lightning.data.loading import global_seed


class BatchSeeding(Callback):
    """Reseeds torch before each batch, with what the run's seed, epoch, batch and process decide.

    A run that goes on in the middle of an epoch then drops out what it would have dropped out, and no process repeats
    the numbers of another, to which Lightning gives the same seed. Order and augmentation of the images have seeds of
    their own.
    """

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,  # noqa: ANN401  # Lightning's signature
        batch_idx: int,
    ) -> None:
        """Before anything is drawn for it."""
        key = (global_seed(), trainer.current_epoch, batch_idx, trainer.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]))
