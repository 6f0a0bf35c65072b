"""Every process, and every attempt at a run, draws random numbers of its own."""

import os

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class OwnRandomness(Callback):
    """Reseeds torch where a process would otherwise repeat the draws of another.

    Lightning gives every process the same seed, so that dropout and augmentation would be the same on all devices; and
    a resumed run would begin with the order and the augmentation of its first epoch.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seeds by run, epoch and process; a new run's first process goes on after drawing the weights."""
        if trainer.global_rank or trainer.current_epoch:
            seed = int(os.environ.get("PL_GLOBAL_SEED", "0"))  # where Lightning keeps it
            mixed = torch.tensor([seed, trainer.current_epoch, trainer.global_rank])
            torch.manual_seed(int((mixed * torch.tensor([1_000_003, 1_009, 1])).sum()))
