"""What a model says of pictures, and where it looks."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vit_lightning.callbacks.predictions import shown_size
from vit_lightning.data.frames import load_frame
from vit_lightning.data.transforms import frame_size, normalise
from vit_lightning.evaluation.attention import attention_of, overlay
from vit_lightning.evaluation.conformal import kept_words, limit_of, set_of
from vit_lightning.evaluation.embeddings import embed
from vit_lightning.evaluation.strangers import Nearness, read_nearness
from vit_lightning.evaluation.unknown import read_unknown
from vit_lightning.inference import load_classifier, predict_paths, top_classes
from vit_lightning.module import ViTClassifier
from vit_lightning.runs import Run

Picture = npt.NDArray[np.uint8]

#: Classes that are told of a picture.
TOP = 5


@dataclass(frozen=True)
class Answer:
    """One picture as a model sees it.

    Args:
        name: As it was sent.
        reason: Why there is no label, or ''.
        classes: The likeliest ones with their probability, the likeliest first.
        picture: Bytes (H, W, 3).
        attention: The same with the attention over it.
        set: The classes that may be the true one, where `test` or `folds` has found out how sure that is.
        promise: What such a set is worth, or ''.
        stranger: Whether it is unlike all that the model was trained on, where `test` has found out how to tell.
    """

    name: str
    reason: str = ""
    classes: tuple[tuple[str, float], ...] = ()
    picture: Picture | None = None
    attention: Picture | None = None
    set: tuple[str, ...] = ()
    promise: str = ""
    stranger: bool = False


@dataclass(frozen=True)
class Look:
    """Which attention is shown.

    Args:
        block: Of this block, from 0; left out, through all blocks (rollout).
        head: With `block`, of this head, from 0; left out, the mean over the heads.
    """

    block: int | None = None
    head: int | None = None

    def fitted(self, model: ViTClassifier) -> "Look":
        """The same in a model that may have fewer blocks or heads: the last one then."""
        blocks, heads = len(model.net.blocks), model.net.blocks[0].attention.heads
        block = None if self.block is None else min(self.block, blocks - 1)
        return Look(block, None if self.head is None or block is None else min(self.head, heads - 1))


@lru_cache(maxsize=3)
def model_of(checkpoint: str, changed: float) -> ViTClassifier:
    """A model; the latest few stay in memory. A checkpoint is read as numbers, words and tensors alone."""
    del changed  # it is part of what is remembered
    return load_classifier(checkpoint)


def answers(run: Run, pictures: Sequence[tuple[str, Path]], look: Look) -> list[Answer]:
    """What a run's best weights say of each picture.

    Args:
        run: The model's.
        pictures: Name and file of each.
        look: Which attention.

    Raises:
        FileNotFoundError: The run has no weights.
        ValueError: They are none of this project's, or give no numbers.
    """
    path = run.checkpoint()
    model = model_of(str(path), path.stat().st_mtime)
    kept = read_unknown(run.folder, path)
    nearness = read_nearness(run.folder, kept.get("strangers"))
    return [answer(model, name, file, look.fitted(model), kept.get("sets"), nearness) for name, file in pictures]


def answer(
    model: ViTClassifier,
    name: str,
    file: Path,
    look: Look,
    sets: dict[str, Any] | None = None,
    nearness: Nearness | None = None,
) -> Answer:
    """What a model says of one picture.

    Args:
        model: The model.
        name: As it was sent.
        file: The picture.
        look: Which attention.
        sets: What `kept_sets` has kept of the model, for the classes that may be the true one.
        nearness: To all of training, for strangers.
    """
    try:
        ((_, probabilities),) = predict_paths(model, [file])
        picture = load_frame(file, shown_size)
        channels, height, width = model.net.image_shape
        frame = load_frame(file, frame_size((height, width)))
    except OSError as error:
        return Answer(name, reason=str(error).replace(str(file), name))
    images = normalise(torch.stack([frame]), channels)
    weights = attention_of(model.net, images, block=look.block, head=look.head)[0]
    classes = tuple((label, share) for _, label, share in top_classes(probabilities, model.class_names, TOP))
    drawn = overlay(picture, weights).numpy()
    strange = nearness is not None and nearness.strange(embed(model.net, frame[None]))[0]
    limit = limit_of(sets)
    if sets is None or limit is None:
        return Answer(name, "", classes, picture.numpy(), drawn, stranger=strange)
    inside = tuple(model.class_names[k] for k in set_of(probabilities.numpy(), limit))
    return Answer(name, "", classes, picture.numpy(), drawn, inside, kept_words(sets), strange)
