"""Keeps what a model says of the held-out images while they are scored."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor


class HeldOutOutputs(Callback):
    """Logits of all images of each part that was scored, (N, K) on the CPU, in the images' order.

    `logits` has them by the name of the stage, `val` or `test`, on every process.
    """

    def __init__(self) -> None:
        self.logits: dict[str, Tensor] = {}
        self.batches: list[Tensor] = []

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:  # noqa: ANN401  # Lightning's signature
        """Keeps a batch."""
        self.batches.append(outputs.float().cpu())

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:  # noqa: ANN401  # Lightning's signature
        """Keeps a batch."""
        self.batches.append(outputs.float().cpu())

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts the batches of all devices together."""
        self.gather("val", trainer)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts the batches of all devices together."""
        self.gather("test", trainer)

    def gather(self, part: str, trainer: Trainer) -> None:
        """Device r of n has had the images r, r + n, r + 2n and so on."""
        own = torch.cat(self.batches)
        self.batches = []
        if trainer.world_size > 1:
            shares = [own] * trainer.world_size
            torch.distributed.all_gather_object(shares, own)
            whole = own.new_empty(sum(map(len, shares)), own.shape[1])
            for rank, share in enumerate(shares):
                whole[rank :: trainer.world_size] = share
            own = whole
        self.logits[part] = own
