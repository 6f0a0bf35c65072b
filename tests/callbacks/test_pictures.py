"""The sheets of images, as files and in TensorBoard."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torch import Tensor

from vit_lightning.callbacks.monitor import ClassMonitor, StepMonitor
from vit_lightning.callbacks.pictures import (
    HELD_OUT_COLUMNS,
    LINE,
    MARGIN,
    SHOWN_WIDTH,
    TRAINING_COLUMNS,
    TRAINING_IMAGES,
    HeldOutImages,
    TrainingImages,
    captioned,
    enlarged,
    evenly_chosen,
    evenly_spaced,
    font,
    is_looked_at,
    sheet,
    wrapped,
)
from vit_lightning.data.datamodule import ImageDataModule
from vit_lightning.data.sources import find_classes
from vit_lightning.data.transforms import restored
from vit_lightning.module import ViTClassifier
from vit_lightning.progress import legible


def plain(colour: Sequence[float]) -> Tensor:
    """An image (8, 16, 3) of one colour."""
    return (255 * torch.tensor(colour)).round().to(torch.uint8).expand(8, 16, 3)


def pixels(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture))


def test_the_sheet_shows_each_image_in_its_own_colours_with_its_label() -> None:
    colours = [(1.0, 0.0, 0.0), (0.0, 0.5, 0.0), (0.2, 0.4, 1.0)]
    tiles = [captioned([plain(colour)], ["label"]) for colour in colours]
    seen = pixels(sheet(tiles, 2))
    height, width = LINE + 8 + 2 * MARGIN, 16 + 2 * MARGIN
    assert seen.shape == (2 * height, 2 * width, 3)
    for place, colour in enumerate(colours):
        row, column = divmod(place, 2)
        tile = seen[row * height : (row + 1) * height, column * width : (column + 1) * width]
        torch.testing.assert_close(tile[-MARGIN - 8 : -MARGIN, MARGIN:-MARGIN], plain(colour), rtol=0, atol=0)
        assert (tile[: MARGIN + LINE] < 128).any()  # the label
    assert (seen[height:, width:] == 255).all()


def test_the_text_is_what_is_said_red_where_wrong_and_cut_where_too_long() -> None:
    def text(line: str, *, wrong: bool = False) -> Tensor:
        return pixels(captioned([plain((0, 0, 0)).repeat(1, 5, 1)], [line], wrong=wrong))[: MARGIN + LINE]

    assert not torch.equal(text("tom"), text("jerry"))
    long = text("a label with far too many words to be shown")
    assert (long[:, -MARGIN:] == 255).all()
    assert not torch.equal(long, text("a label"))
    dark = text("tom", wrong=True).view(-1, 3).float()
    red, green, _ = dark[dark.sum(dim=1).argmin()].tolist()
    assert red > green + 100


def test_a_caption_that_has_to_be_whole_goes_on_in_further_lines() -> None:
    """In a tile as wide as text needs, whatever the picture; as a name on one line, whatever signs it has."""
    name, words = "n" * 60 + "\n" + "猫" * 30, "a label of quite a few words, with spaces between them"
    for text in (name, words):
        lines = wrapped(legible(text), SHOWN_WIDTH)
        assert len(lines) > 2
        assert max(map(font().getlength, lines)) <= SHOWN_WIDTH
        assert "".join(lines).replace(" ", "") == legible(text).replace(" ", "")
    assert " ".join(wrapped(words, SHOWN_WIDTH)) == words  # no word is broken
    tile = captioned([plain((0, 0, 0))], [name], whole=True)
    assert tile.size == (SHOWN_WIDTH + 2 * MARGIN, 8 + LINE * len(wrapped(legible(name), SHOWN_WIDTH)) + 2 * MARGIN)
    assert (pixels(tile)[-MARGIN - 8 : -MARGIN, MARGIN : MARGIN + 16] == 0).all()


def test_pictures_are_below_or_beside_each_other() -> None:
    red, blue = plain((1.0, 0.0, 0.0)), plain((0.0, 0.0, 1.0))
    below, beside = captioned([red, blue], []), captioned([red, blue], [], beside=True)
    assert below.size == (16 + 2 * MARGIN, 16 + 2 * MARGIN)
    assert beside.size == (32 + 2 * MARGIN, 8 + 2 * MARGIN)
    for picture, place in ((below, (MARGIN, MARGIN + 8)), (beside, (MARGIN + 16, MARGIN))):
        assert picture.getpixel((MARGIN, MARGIN)) == (255, 0, 0)
        assert picture.getpixel(place) == (0, 0, 255)


def test_small_frames_are_enlarged_by_a_whole_factor() -> None:
    frame = torch.randint(0, 256, (4, 6, 3), dtype=torch.uint8)
    large = enlarged(frame)
    factor = -(-SHOWN_WIDTH // 6)
    assert large.shape == (4 * factor, 6 * factor, 3)
    torch.testing.assert_close(large[factor // 2 :: factor, factor // 2 :: factor], frame, rtol=0, atol=0)
    wide = torch.zeros(4, SHOWN_WIDTH, 3, dtype=torch.uint8)
    assert enlarged(wide).shape == wide.shape


@pytest.mark.parametrize(("length", "indices"), [(15, [0, 2, 4, 6, 8, 10, 12, 14]), (3, [0, 1, 2]), (1, [0])])
def test_held_out_images_are_chosen_at_even_distances(length: int, indices: list[int]) -> None:
    dataset: Any = [(torch.tensor(index), 0) for index in range(length)]
    assert [int(frame) for frame, _ in evenly_chosen(dataset, 8)] == indices
    assert evenly_spaced(length, 8).tolist() == indices


def test_what_costs_time_is_drawn_ever_more_rarely_and_at_the_end() -> None:
    def looked_at(epoch: int, every: int | None) -> bool:
        trainer: Any = SimpleNamespace(current_epoch=epoch - 1, max_epochs=20, check_val_every_n_epoch=every)
        return is_looked_at(trainer)

    for every in (1, None):  # None counts batches
        assert [epoch for epoch in range(1, 21) if looked_at(epoch, every)] == [1, 2, 4, 8, 16, 20]
    assert [epoch for epoch in range(3, 21, 3) if looked_at(epoch, 3)] == [3, 6, 12]


@pytest.mark.parametrize("watched", [False, True])
def test_looking_changes_nothing_and_shows_all_classes(tmp_path: Path, frames: Path, watched: bool) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    weights = []
    for looks in (False, True):
        torch.manual_seed(0)
        data = ImageDataModule(root=str(frames), image_size=8, batch_size=10, num_workers=0)
        names = find_classes("folder", str(frames))
        model = ViTClassifier(class_names=names, image_size=8, patch_size=4, dim=8, depth=1, heads=1, dropout=0.5)
        callbacks: list[Callback] = [TrainingImages(tmp_path), HeldOutImages(tmp_path)]
        callbacks += [ClassMonitor(names), StepMonitor()]
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=3,
            limit_train_batches=2,
            log_every_n_steps=1,
            logger=TensorBoardLogger(tmp_path, name="", version="run") if watched else False,
            callbacks=callbacks if looks else [],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(model, data)
        weights.append(model.net.state_dict())
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)
    assert {path.name for path in tmp_path.glob("*.png")} == {"train_images.png", "val_images.png"}
    if watched:
        events = EventAccumulator(str(tmp_path / "run"))
        events.Reload()
        (training,) = events.Images("train/images")
        assert training.width > training.height > 400
        held_out = events.Images("val/images")
        assert [event.step for event in held_out] == [1, 3, 5]  # epochs 1, 2 and 3, the last
        assert len({event.encoded_image_string for event in held_out}) == 3


class Spy(Callback):
    """The images and labels of the training batches of the first epoch, and the files as each epoch left them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.batches: list[tuple[Tensor, Tensor]] = []
        self.early: set[str] = set()
        self.late: list[bytes] = []

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: tuple[Tensor, Tensor], batch_idx: int
    ) -> None:
        if trainer.global_step == 0:
            self.early = {path.name for path in self.folder.iterdir()}
        if trainer.current_epoch == 0:
            self.batches.append(batch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        path = self.folder / "val_images.png"
        self.late.append(path.read_bytes() if path.exists() else b"")


def fit(frames: Path, folder: Path, *, channels: int = 3, val_fraction: float = 0.2, epochs: int = 1) -> Spy:
    """Trains without a logger, after a trial of the validation."""
    data = ImageDataModule(
        root=str(frames), image_size=8, in_channels=channels, batch_size=10, num_workers=0, val_fraction=val_fraction
    )
    names = find_classes("folder", str(frames))
    model = ViTClassifier(
        class_names=names, image_size=8, in_channels=channels, patch_size=4, dim=8, depth=1, heads=1, lr=0.1
    )
    spy = Spy(folder)
    Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        callbacks=[TrainingImages(folder), HeldOutImages(folder), spy],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(model, data)
    return spy


@pytest.mark.parametrize("channels", [3, 1])
def test_the_file_of_training_images_shows_what_the_model_is_given(tmp_path: Path, frames: Path, channels: int) -> None:
    """The batches themselves: their order, augmentation, colours and labels."""
    spy = fit(frames, tmp_path, channels=channels)
    assert spy.early == {"train_images.png"}
    images = restored(torch.cat([batch[0] for batch in spy.batches]))[:TRAINING_IMAGES]
    labels = torch.cat([batch[1] for batch in spy.batches])[:TRAINING_IMAGES]
    names = find_classes("folder", str(frames))
    tiles = [captioned([enlarged(image)], [names[label]]) for image, label in zip(images, labels, strict=True)]
    assert len(set(labels.tolist())) > 1
    with Image.open(tmp_path / "train_images.png") as picture:
        seen = pixels(picture)
    expected = pixels(sheet(tiles, TRAINING_COLUMNS))
    torch.testing.assert_close(seen[MARGIN + LINE : -MARGIN, MARGIN:-MARGIN], expected, rtol=0, atol=0)
    assert (seen[: MARGIN + LINE] < 128).any()  # the title
    assert bool((seen == seen[..., :1]).all()) == (channels == 1)


def test_the_file_of_held_out_images_is_replaced_in_the_epochs_that_are_looked_at(tmp_path: Path, frames: Path) -> None:
    spy = fit(frames, tmp_path, epochs=5)
    first, second, third, fourth, last = spy.late
    assert len({first, second, fourth, last}) == 4
    assert third == second
    assert last == (tmp_path / "val_images.png").read_bytes()
    with Image.open(tmp_path / "val_images.png") as picture:
        tile = (picture.width - 2 * MARGIN) / HELD_OUT_COLUMNS
        assert tile == SHOWN_WIDTH + 2 * MARGIN
        assert (picture.height - LINE - 2 * MARGIN) / (2 * LINE + 2 * SHOWN_WIDTH + 2 * MARGIN) == 2  # rows of them
    assert {path.name for path in tmp_path.iterdir()} == {"train_images.png", "val_images.png"}  # nothing half-written


def test_without_a_validation_part_there_is_no_file_of_it(tmp_path: Path, frames: Path) -> None:
    fit(frames, tmp_path, val_fraction=0.0)
    assert [path.name for path in tmp_path.iterdir()] == ["train_images.png"]


def test_the_first_process_alone_draws(tmp_path: Path, frames: Path) -> None:
    data = ImageDataModule(root=str(frames), image_size=8, num_workers=0)
    data.setup("fit")
    names = find_classes("folder", str(frames))
    model = ViTClassifier(class_names=names, image_size=8, patch_size=4, dim=8, depth=1, heads=1)
    settings: dict[str, Any] = {
        "sanity_checking": False,
        "current_epoch": 0,
        "max_epochs": 1,
        "check_val_every_n_epoch": 1,
    }
    settings |= {"train_dataloader": data.train_dataloader(), "val_dataloaders": data.val_dataloader(), "loggers": []}
    for first in (False, True):
        trainer: Any = SimpleNamespace(is_global_zero=first, **settings)
        TrainingImages(tmp_path).on_train_start(trainer, model)
        HeldOutImages(tmp_path).on_validation_epoch_end(trainer, model)
        assert len(list(tmp_path.iterdir())) == (2 if first else 0)
