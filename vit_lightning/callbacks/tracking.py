"""Tells a tracker of a run while it trains."""

import logging
from collections.abc import Callable
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from vit_lightning.tracking.run import TrackedRun, missing
from vit_lightning.tracking.store import within

log = logging.getLogger(__name__)

#: Seconds that a run waits for MLflow at most: for all there is, perhaps with a store's tables, and in an epoch.
ALL, EPOCH = 120.0, 10.0


class Tracking(Callback):
    """Sends MLflow what `History` has written, which has to stand before it; the first process alone does.

    Lightning's own MLFlowLogger raises into the training where its server is gone, knows steps alone, and never makes
    up for what was missed. After a failure MLflow is asked once more, at the end.

    Args:
        folder: The run's.
    """

    def __init__(self, folder: Path) -> None:
        self.run = TrackedRun(folder)
        self.begun = False
        self.lost = False
        self.told = False

    def tell(self, task: Callable[[], None], seconds: float) -> None:
        """Does a task within its time; the first time that this fails it is said, and MLflow is left alone."""
        try:
            within(seconds, task)
            if self.lost:
                log.info("MLflow answers again, and has all that it had missed")
            self.lost = False
        except Exception as error:  # what MLflow and the libraries below it raise has no common class
            self.lost = True
            if not self.told:
                missing(self.run, error)
            self.told = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Settings, data and the epochs so far."""
        if trainer.is_global_zero:
            self.begun = True
            self.tell(self.run.send, ALL)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The epoch's scores."""
        if trainer.is_global_zero and not self.lost:
            self.tell(self.run.send_epochs, EPOCH)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """How it ended, and all that is missing."""
        if self.begun:
            self.tell(self.run.send, ALL)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """The same, unless MLflow was gone: who stops a run waits for it."""
        if self.begun and not self.lost:
            self.tell(self.run.send, EPOCH)
