"""The sheet of training images in TensorBoard."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torch import Tensor

from vit_lightning.callbacks.pictures import COLUMNS, ROWS, TrainingImages, draw_sheet
from vit_lightning.data.datamodule import ImageDataModule, find_classes
from vit_lightning.module import ViTClassifier


def plain(colour: Sequence[float]) -> Tensor:
    """An image (8, 16, 3) of one colour."""
    return (255 * torch.tensor(colour)).round().to(torch.uint8).expand(8, 16, 3)


def test_the_sheet_shows_each_image_in_its_own_colours_with_its_label() -> None:
    colours = [(1.0, 0.0, 0.0), (0.0, 0.5, 0.0), (0.2, 0.4, 1.0)]
    figure = draw_sheet([(plain(colour), f"label {i}") for i, colour in enumerate(colours)])
    assert len(figure.axes) == ROWS * COLUMNS
    assert [axes.get_title() for axes in figure.axes[:4]] == ["label 0", "label 1", "label 2", ""]
    file = io.BytesIO()
    figure.savefig(file)
    found = {tuple(colour) for colour in np.asarray(Image.open(file).convert("RGB")).reshape(-1, 3).tolist()}
    for wanted in ((255, 0, 0), (0, 128, 0), (51, 102, 255)):
        assert any(max(abs(a - b) for a, b in zip(wanted, colour, strict=True)) <= 1 for colour in found)


@pytest.mark.parametrize("watched", [False, True])
def test_looking_changes_nothing_and_shows_all_classes(tmp_path: Path, frames: Path, watched: bool) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    weights = []
    for looks in (False, watched):
        callbacks: list[Callback] = [TrainingImages()] if looks else []
        torch.manual_seed(0)
        data = ImageDataModule(root=str(frames), image_size=8, batch_size=10, num_workers=0)
        names = find_classes("folder", str(frames))
        model = ViTClassifier(class_names=names, image_size=8, patch_size=4, dim=8, depth=1, heads=1, dropout=0.5)
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=1,
            limit_train_batches=2,
            logger=TensorBoardLogger(tmp_path, name="", version="run") if watched else False,
            callbacks=callbacks,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(model, data)
        weights.append(model.net.state_dict())
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)
    if watched:
        events = EventAccumulator(str(tmp_path / "run"))
        events.Reload()
        (sheet,) = events.Images("train/images")
        assert sheet.width > sheet.height > 400
