"""What there is to see of a data set within seconds: by the very functions that `check` uses, without a network."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from vit_lightning.callbacks.pictures import captioned, enlarged, evenly_spaced
from vit_lightning.check.data import check_balance, check_files, check_labels, check_pictures, check_split, images_of
from vit_lightning.check.finding import Finding
from vit_lightning.data.datamodule import ImageDataModule
from vit_lightning.data.transforms import train_transform
from vit_lightning.evaluation.baselines import score_baselines
from vit_lightning.studio.fields import draft

#: Samples that are shown, and unreadable files.
SHOWN, NAMED = 12, 200


@dataclass(frozen=True)
class View:
    """A data set as the page shows it."""

    root: str
    line: str
    counts: Mapping[str, Counter[str]]  # images a class, by part
    classes: tuple[str, ...]
    unreadable: Mapping[str, str]
    findings: Sequence[Finding]
    samples: Sequence[Image.Image]  # plain above augmented


def look(words: Sequence[str]) -> View:
    """Lists, opens and splits the images that a `fit` of these options would take, and says what `check` says.

    Raises:
        FileNotFoundError: The folder is missing.
        ValueError: What is wrong, as `fit` would say it.
        OSError: They cannot be downloaded or drawn.
    """
    data = draft(words).datamodule
    assert isinstance(data, ImageDataModule), "a draft's own"
    refuses = data.settings.on_error == "raise"
    data.settings = replace(data.settings, on_error="skip")
    data.prepare_data()
    data.arrange("fit")
    split = data.used_split
    train, baselines = split.part("train"), score_baselines(split, "val" if split.part("val") else "test")
    findings = [
        check_files(split.unreadable, len(split.samples), refuses=refuses),
        check_balance(split.counts()["train"], weighted=False),
        check_split(baselines),
        check_pictures(baselines.clash if baselines else None),
        check_labels(split.thumbnails(train), np.array(split.labels("train"))),
    ]
    return View(
        root=str(split.root),
        line=split.describe(),
        counts=split.counts(),
        classes=split.class_names,
        unreadable=dict(list(split.unreadable.items())[:NAMED]),
        findings=findings,
        samples=draw(data),
    )


def draw(data: ImageDataModule) -> list[Image.Image]:
    """A few training images, plain above augmented, with their labels as a part of the picture."""
    split, size = data.used_split, data.image_size
    chosen = evenly_spaced(len(split.part("train")), SHOWN)
    labels = [sample.label for sample in split.part("train")]
    plain = images_of(data.labelled("train"), chosen, size)
    augmented = images_of(data.labelled("train", train_transform(size, data.augment)), chosen, size)
    return [
        captioned([enlarged(plain[place]), enlarged(augmented[place])], [labels[index]])
        for place, index in enumerate(chosen)
    ]
