"""Ends a run whose numbers are none any more."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from vit_lightning.runs import DIVERGED


class StopAtNaN(Callback):
    """Ends training as failed when a loss or a weight is infinite or no number, before a checkpoint is written.

    Each epoch ends with a look at the weights, before they are validated, and at both losses; the weights are looked at
    before they are saved, too. Lightning calls its checkpoints after all other callbacks, so that the good ones stay.
    A run on one device is looked at every `log_every_n_steps` steps too, when its loss is read anyhow; of several
    devices one alone would leave the others waiting for it, whereas the losses of an epoch are the same on all.

    Lightning's EarlyStopping with `check_finite` would end such a run as if it had gone through, after one more
    checkpoint; its `detect_anomaly` makes every step several times slower.
    """

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401  # Lightning's signature
        batch: tuple[Tensor, Tensor],
        batch_idx: int,
    ) -> None:
        """Looks at the loss of one batch.

        Raises:
            ValueError: It is no number.
        """
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by Lightning's connector
        if trainer.world_size == 1 and every and (batch_idx + 1) % every == 0:
            demand(outputs["loss"], "the training loss", trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Looks at the weights before any are saved: within an epoch, too, the last good ones are kept.

        Raises:
            ValueError: One is no number.
        """
        self.on_validation_start(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks at the weights: the last step can spoil them, and what is drawn of the validation needs numbers.

        Raises:
            ValueError: One is no number.
        """
        sound = torch.stack([parameter.detach().isfinite().all() for parameter in pl_module.parameters()]).all()
        if not trainer.strategy.reduce_boolean_decision(bool(sound)):  # devices that share the weights out agree
            demand(torch.tensor(torch.nan), "a weight", trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks at what was validated, before it is drawn.

        Raises:
            ValueError: The loss is no number.
        """
        if "val/loss" in trainer.callback_metrics:
            demand(trainer.callback_metrics["val/loss"], "the validation loss", trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks at the epoch.

        Raises:
            ValueError: The loss or a weight is no number.
        """
        if "train/loss" in trainer.callback_metrics:
            demand(trainer.callback_metrics["train/loss"], "the training loss", trainer, pl_module)
        self.on_validation_start(trainer, pl_module)  # there may have been no validation


def demand(value: Tensor, words: str, trainer: Trainer, pl_module: LightningModule) -> None:
    """Ends the run unless the value is a number.

    Raises:
        ValueError: It is none; the message says what to do.
    """
    if value.isfinite():
        return
    epoch, rate = trainer.current_epoch, pl_module.hparams.get("lr")
    kept = "; the checkpoints from before are kept" if epoch and trainer.checkpoint_callbacks else ""
    raise ValueError(
        f"{words} in epoch {epoch + 1} is {value.item()}: {DIVERGED}; lower --model.lr"
        f"{'' if rate is None else f' ({rate:g})'}{kept}"
    )
