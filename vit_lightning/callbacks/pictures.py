"""Pictures for TensorBoard: what the model is really given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Rows and columns of the sheet.
ROWS, COLUMNS = 4, 6


class TrainingImages(Callback):
    """A sheet of augmented training images with their labels, once when training starts, as `train/images`."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws images of all classes: the data set is sorted by class, and they are taken at even distances."""
        loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if not loggers or not trainer.is_global_zero or trainer.train_dataloader is None:
            return
        dataset = trainer.train_dataloader.dataset
        chosen = np.unique(np.linspace(0, len(dataset) - 1, ROWS * COLUMNS).astype(int))
        images = [dataset[int(index)] for index in chosen]
        figure = draw_sheet([(image, pl_module.hparams["class_names"][label]) for image, label in images])
        for logger in loggers:
            logger.experiment.add_figure("train/images", figure, trainer.global_step)


def draw_sheet(images: list[tuple[Tensor, str]]) -> Figure:
    """Images, bytes (H, W, 3), in a grid, their labels above them."""
    from matplotlib.figure import Figure  # half a second, needed only here

    height, width = images[0][0].shape[:2]
    figure = Figure(figsize=(2.0 * COLUMNS, (2.0 * height / width + 0.25) * ROWS), layout="constrained")
    places = figure.subplots(ROWS, COLUMNS).ravel()
    for place in places:
        place.axis("off")
    for place, (image, label) in zip(places, images, strict=False):
        place.imshow(image.numpy())
        place.set_title(label, fontsize=9)
    return figure
