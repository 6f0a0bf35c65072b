"""Every process, and a run that goes on, draws random numbers of its own."""

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from vit_lightning.data.loading import global_seed


class ProcessSeeding(Callback):
    """Reseeds torch where a process's dropout would repeat that of another, or a resumed run's that of its beginning.

    Lightning gives every process the same seed. A new run's first process goes on with the numbers that follow those
    of the weights. Order and augmentation of the images have seeds of their own.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """After the weights of a new run were drawn, the same in all processes."""
        epoch, rank = trainer.current_epoch, trainer.global_rank
        if epoch or rank:
            torch.manual_seed(1_000_003 * global_seed() + 1_009 * epoch + rank)
