"""The debugging list that is worth going through before an hour of training is spent, in about a minute.

Each function looks at one thing and says what it found. Nothing of a run is opened or kept; every step that computes is
bounded in seconds. Here are the list itself and what each part of it is given.
"""

import copy
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from vit_lightning.callbacks.pictures import evenly_spaced
from vit_lightning.check.data import (
    check_augmentation,
    check_balance,
    check_files,
    check_input,
    check_labels,
    check_pictures,
    check_split,
    draw_samples,
    images_of,
    thumbnails_of,
)
from vit_lightning.check.finding import Finding, Level, tell
from vit_lightning.check.guard import check_guard
from vit_lightning.check.network import OVERFITTED, Workbench, check_first_loss, check_gradients, check_overfit
from vit_lightning.check.optimization import check_decay, check_lr
from vit_lightning.check.pace import check_device, length, measure
from vit_lightning.check.random_labels import affordable, check_random_labels, clips_of, shuffle
from vit_lightning.checkpoint import initial_weights
from vit_lightning.data.datamodule import ImageDataModule
from vit_lightning.data.near_duplicates import in_two_classes
from vit_lightning.evaluation.baselines import score_baselines
from vit_lightning.module import ViTClassifier

log = logging.getLogger(__name__)

#: Images of which augmented versions are looked for among the plain ones, and of which the input's numbers are taken.
LOOKED_AT = 400

#: Most images in a batch of the learning rate range test.
SMALL_BATCH = 16


def run(model: ViTClassifier, data: ImageDataModule, trainer: Trainer, folder: Path, *, shuffled: bool = False) -> bool:
    """Prints the `findings`, whose arguments it takes; gives whether there was no failure.

    With `shuffled` it also trains on labels that mean nothing.
    """
    levels = Counter[Level]()
    more = look_at_random_labels(model, data, trainer) if shuffled else ()
    for finding in chain(findings(model, data, trainer, folder), more):
        tell(finding)
        levels[finding.level] += 1
    counted = [f"{levels['ok']} ok"]
    counted += [f"{n} {level}{'s' * (n != 1)}" for level in ("warning", "failure") if (n := levels[level])]
    log.info("%s; pictures are in %s", ", ".join(counted), folder)
    return not levels["failure"]


def findings(model: ViTClassifier, data: ImageDataModule, trainer: Trainer, folder: Path) -> Iterator[Finding]:
    """Goes through the list. What is taken from the data is taken here; the parts get images, labels and numbers.

    Args:
        model: As it would be trained; it is left as it was.
        data: Its images; unreadable ones are left out, whatever `on_error` says.
        trainer: Its device, precision and limits are those of the run.
        folder: Where `samples.png` and `learning_rate.png` are put, over older ones.

    Yields:
        A finding at a time, as soon as it is known.

    Raises:
        FileNotFoundError: The data are missing.
        ValueError: There is no split, or no end of training.
    """
    refuses = data.settings.on_error == "raise"
    data.settings = replace(data.settings, on_error="skip")
    data.prepare_data()
    data.setup("fit")
    loader = data.train_dataloader()
    steps, batches = length(len(loader), trainer)
    fresh, model = model.hparams["init_from"] is None, to_be_checked(model)
    settings = model.hparams

    split = data.used_split
    names, train, labels = split.class_names, split.part("train"), np.array(split.labels("train"))
    yield check_files(split.unreadable, len(split.samples), refuses=refuses)
    yield check_balance(split.counts()["train"], weighted=settings["class_weights"] is not None)
    baselines, thumbnails = score_baselines(split), split.thumbnails(train)
    yield check_split(baselines)
    if split.kind == "blocks" and split.part("val", "test"):
        yield check_guard(split)
    yield check_pictures(baselines.clash if baselines else in_two_classes(train, thumbnails, split.root))
    yield check_labels(thumbnails, labels)

    chosen = evenly_spaced(len(train), LOOKED_AT)
    plain, augmented = (images_of(d, chosen, data.image_size) for d in (data.labelled("train"), loader.dataset))
    folder.mkdir(parents=True, exist_ok=True)
    yield draw_samples(plain, augmented, [names[label] for label in labels[chosen]], folder / "samples.png")
    yield check_augmentation(thumbnails_of(plain), thumbnails_of(augmented), labels[chosen])

    images, targets = data.on_after_batch_transfer([plain, torch.from_numpy(labels[chosen])], 0)
    yield check_input(images.float())

    yield check_device(trainer)
    workbench = Workbench(model.net, trainer)
    few = evenly_spaced(len(images), OVERFITTED)
    images, targets = images[few].float(), targets[few]
    yield check_first_loss(workbench, images, targets, len(names), fresh=fresh)
    yield check_gradients(workbench, images, targets)
    yield check_overfit(workbench, images, targets, float(settings["lr"]))

    pace = measure(model, data, trainer, steps=steps, batches=batches, held_out=len(split.part("val")))
    size = min(data.batch_size, SMALL_BATCH, len(train))
    seconds, path = pace.batch * size / pace.images, folder / "learning_rate.png"
    yield check_lr(workbench, small_batches(data, size), settings, model.loss, seconds=seconds, path=path)
    yield check_decay(float(settings["lr"]), float(settings["weight_decay"]), steps, settings["warmup_fraction"])
    yield pace.finding()


def look_at_random_labels(model: ViTClassifier, data: ImageDataModule, trainer: Trainer) -> Iterator[Finding]:
    """What the network makes of labels that were shuffled by clip; the data are set up."""
    split = data.used_split
    train, val = split.part("train"), split.part("val")
    if not val:
        yield Finding("warning", "random labels", "there is no validation part whose labels could be shuffled")
        return
    clips = clips_of([*train, *val], split.thumbnails([*train, *val]), split.settings.block_length)
    model = to_be_checked(model)
    workbench = Workbench(model.net, trainer)
    most = affordable(workbench, model.net.image_shape)
    drawn = shuffle(clips[: len(train)], clips[len(train) :], len(split.class_names), most)
    images = []
    for part, chosen in (("train", drawn.train), ("val", drawn.val)):
        plain = images_of(data.labelled(part), chosen, data.image_size)
        images.append(data.on_after_batch_transfer([plain], 0)[0].float())
    yield check_random_labels(workbench, (images[0], images[1]), drawn, float(model.hparams["lr"]))


def small_batches(data: ImageDataModule, size: int) -> Iterator[list[Tensor]]:
    """Batches of training, augmented and normalised, without end: images (B, C, H, W) and labels (B,)."""
    # A last batch of few images would be noise.
    loader = DataLoader(data.train_dataloader().dataset, size, shuffle=True, drop_last=True)
    return (data.on_after_batch_transfer(batch, 0) for batch in chain.from_iterable(repeat(loader)))


def to_be_checked(model: ViTClassifier) -> ViTClassifier:
    """A copy that starts from the weights that the run would start from."""
    model = copy.deepcopy(model)
    if model.hparams["init_from"] is not None:
        weights = initial_weights(Path(model.hparams["init_from"]), model.net, model.hparams)
        model.net.load_state_dict(model.net.state_dict() | weights)
    # The weights are there, and compiling takes longer than all of this.
    model.hparams.update(init_from=None, compile=False)
    return model
