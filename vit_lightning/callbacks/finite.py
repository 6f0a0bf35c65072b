"""Ends a run whose numbers are none any more."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor


class StopAtNaN(Callback):
    """Ends training as failed when a loss or a weight is infinite or no number, before a checkpoint is written.

    Each epoch ends with a look at both losses and all weights. Lightning calls its checkpoints after all other
    callbacks, so that those of the epoch before stay. A run on one device is looked at every `log_every_n_steps` steps
    too, when its loss is read anyhow; of several devices one alone would leave the others waiting for it, whereas
    the losses of an epoch are the same on all. (Lightning's EarlyStopping with `check_finite` would end such a run as
    if it had gone through, and after its checkpoints; `detect_anomaly` makes every step several times slower.)
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
            demand(outputs["loss"], "training loss", trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks at the epoch, whose validation has run by now.

        Raises:
            ValueError: A loss or a weight is no number.
        """
        for name, words in (("train/loss", "training loss"), ("val/loss", "validation loss")):
            if name in trainer.callback_metrics:
                demand(trainer.callback_metrics[name], words, trainer, pl_module)
        # The last step of an epoch can spoil the weights, and there may be no validation to show it. Where the weights
        # are shared out, the devices have to agree.
        sound = torch.stack([parameter.detach().isfinite().all() for parameter in pl_module.parameters()]).all()
        if not trainer.strategy.reduce_boolean_decision(bool(sound)):
            demand(torch.tensor(torch.nan), "largest weight", trainer, pl_module)


def demand(value: Tensor, words: str, trainer: Trainer, pl_module: LightningModule) -> None:
    """Ends the run unless the value is a number.

    Raises:
        ValueError: It is none; the message says what to do.
    """
    if value.isfinite():
        return
    rate = pl_module.hparams.get("lr")
    kept = "; the checkpoints of the epoch before are kept" if trainer.current_epoch else ""
    raise ValueError(
        f"the {words} in epoch {trainer.current_epoch + 1} is {value.item()}: training has failed; lower --model.lr"
        f"{'' if rate is None else f' ({rate:g})'}{kept}"
    )
