"""Every process, and every epoch that a resumed run begins with, draws random numbers of its own."""

import os
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class OwnRandomness(Callback):
    """Reseeds torch where a process would otherwise repeat the draws of another, or a resumed run its first epoch's.

    Lightning gives every process the same seed, so that dropout and augmentation would be the same on all devices. A
    new run's first process goes on with the numbers that follow those of the weights.
    """

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Before Lightning counts the steps, for which it starts the loader processes and has the order drawn."""
        reseed(checkpoint["epoch"] + 1, trainer.global_rank)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """After the weights of a new run were drawn, the same in all processes."""
        if trainer.global_rank and not trainer.current_epoch:
            reseed(0, trainer.global_rank)


def reseed(epoch: int, rank: int) -> None:
    """Seeds torch by the run's seed, which Lightning keeps in the environment, the epoch and the process."""
    seed = int(os.environ.get("PL_GLOBAL_SEED", "0"))
    torch.manual_seed(1_000_003 * seed + 1_009 * epoch + rank)
