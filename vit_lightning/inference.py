"""Using a trained model: from a run or a checkpoint to labels, without a Trainer."""

import glob
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from vit_lightning.checkpoint import check_weights, read_checkpoint
from vit_lightning.data.frames import load_frame
from vit_lightning.data.index import FORMATS, images_below, is_image, named, other_files
from vit_lightning.data.transforms import frame_size, normalise
from vit_lightning.files import expanded
from vit_lightning.module import ViTClassifier
from vit_lightning.runs import LOG_FOLDER, find_checkpoint

log = logging.getLogger(__name__)


def load_classifier(run: str | Path | None = None, *, logs: Path | str = LOG_FOLDER) -> ViTClassifier:
    """Rebuilds a trained model from what its checkpoint holds; nothing needs to be said again.

    Args:
        run: A run's name or folder, a `.ckpt` file, `best`, or None for the latest finished run.
        logs: The log folder.

    Returns:
        The model on the CPU, in evaluation mode.

    Raises:
        FileNotFoundError: There is no such run or checkpoint.
        ValueError: It is no checkpoint of this project, or one that was changed.
    """
    path, _ = find_checkpoint(None if run is None else str(run), Path(logs))
    checkpoint = read_checkpoint(path)
    try:
        model = ViTClassifier(**checkpoint["hyper_parameters"])
    except (TypeError, ValueError) as error:  # of another version, or changed
        raise ValueError(f"the model of {path} cannot be rebuilt: {error}") from error
    check_weights(path, checkpoint["state_dict"], model)
    model.load_state_dict(checkpoint["state_dict"])
    return model.eval()


@torch.inference_mode()
def predict_paths(
    model: ViTClassifier,
    paths: Iterable[Path | str],
    *,
    batch_size: int = 32,
    on_error: Literal["raise", "skip"] = "raise",
) -> Iterator[tuple[str, Tensor]]:
    """Labels image files, a batch at a time, while the next batch is decoded; no more than two are in memory.

    Args:
        model: From `load_classifier`, on any device.
        paths: Image files, any number, from a list or a generator.
        batch_size: Images in a batch.
        on_error: What a file does that is no readable picture: `raise` ends the labelling, `skip` logs a warning and
            leaves the file out.

    Yields:
        Path and class probabilities (K,) on the CPU; the classes are `model.class_names`.

    Raises:
        FileNotFoundError: A file is missing, unless they are skipped.
        OSError: A file is no readable picture, unless they are skipped.
        ValueError: The model gives no numbers.
    """
    channels, height, width = model.net.image_shape
    size, todo = frame_size((height, width)), iter(paths)
    # The decoders let other threads run meanwhile.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as executor:

        def next_batch() -> list[tuple[str, Future[Tensor]]]:
            return [(str(path), executor.submit(load_frame, path, size)) for path in islice(todo, batch_size)]

        following = next_batch()
        while following:
            batch, following = following, next_batch()
            readable, frames = [], []
            for path, frame in batch:
                try:
                    frames.append(frame.result())
                    readable.append(path)
                except OSError as error:
                    if on_error == "raise":
                        raise
                    log.warning("%s", error)
            if frames:
                images = normalise(torch.stack(frames).to(model.device), channels).to(model.dtype)
                yield from zip(readable, checked(model(images).float().softmax(dim=-1).cpu()), strict=True)


def checked(probabilities: Tensor) -> Tensor:
    """Probabilities as they are, (B, K) on the CPU.

    Raises:
        ValueError: They are no numbers, as those of a model whose training has failed; there is no likeliest one.
    """
    if not probabilities.isfinite().all():
        raise ValueError(
            "the model gives no numbers (nan): its training has failed; take another run or checkpoint, or train again "
            "with a lower --model.lr"
        )
    return probabilities


def top_classes(probabilities: Tensor, class_names: Sequence[str], k: int = 3) -> list[tuple[int, str, float]]:
    """The k likeliest classes of one image, (K,) -> index, name and probability, the likeliest first."""
    values, indices = probabilities.topk(min(k, len(class_names)))
    return [(index, class_names[index], value) for index, value in zip(indices.tolist(), values.tolist(), strict=True)]


def find_images(patterns: Sequence[str]) -> list[Path]:
    """Files as they are, folders with all images below them, globs with what they match; each file once, in order.

    Raises:
        FileNotFoundError: One of them leads to no image.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        if not pattern:
            raise ValueError("--images has an empty name; give image files, folders or quoted globs")
        path = expanded(pattern)
        if path.is_file():
            images = [named(path)]
        elif path.is_dir():
            images = list(images_below(path))
        else:
            images = [match for match in map(Path, sorted(glob.glob(str(path), recursive=True))) if is_image(match)]  # noqa: PTH207  # absolute patterns too
        if not images:
            what = f"holds no image{other_files([path])}" if path.is_dir() else "does not exist and matches no image"
            raise FileNotFoundError(
                f"{pattern} {what}; give image files ({', '.join(FORMATS)}), folders or quoted globs of such"
            )
        found.update(dict.fromkeys(images))
    return list(found)
