"""Using a trained model: from a run or a checkpoint to labels, without a Trainer."""

import glob
import logging
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from vit_lightning.checkpoint import check_weights, read_checkpoint
from vit_lightning.data.frames import load_frame
from vit_lightning.data.index import FORMATS, image_names, is_image, named, other_files
from vit_lightning.data.remote import INPUT, check_url, is_url
from vit_lightning.data.transforms import frame_size, normalise
from vit_lightning.data.video import VIDEOS, check_decoder, is_video, sampled_frames
from vit_lightning.files import expanded
from vit_lightning.module import ViTClassifier
from vit_lightning.runs import LOG_FOLDER, find_checkpoint

log = logging.getLogger(__name__)


def load_classifier(run: str | Path | None = None, *, logs: Path | str = LOG_FOLDER) -> ViTClassifier:
    """Rebuilds a trained model from what its checkpoint holds; nothing needs to be said again.

    Args:
        run: A run's name or folder, a `.ckpt` file, `best`, or None for the latest finished run; or an exported
            `.safetensors` file, or its folder.
        logs: The log folder.

    Returns:
        The model on the CPU, in evaluation mode.

    Raises:
        FileNotFoundError: There is no such run or checkpoint.
        ValueError: It is no checkpoint of this project, or one that was changed.
    """
    path, _ = find_checkpoint(None if run is None else str(run), Path(logs))
    return rebuild(path, read_checkpoint(path))


def rebuild(path: Path, checkpoint: Mapping[str, Any]) -> ViTClassifier:
    """The model that a checkpoint holds, on the CPU, in evaluation mode.

    Args:
        path: Where it was read from, for messages.
        checkpoint: From `read_checkpoint`.

    Raises:
        ValueError: It was changed, or is of another version.
    """
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


def predict_video(
    model: ViTClassifier, path: Path | str, *, every: float = 1.0, smooth: float = 0.0, batch_size: int = 32
) -> Iterator[tuple[float, Tensor]]:
    """Labels frames of a video, a batch at a time; no more than a batch of it is in memory.

    Args:
        model: From `load_classifier`, on any device.
        path: The video.
        every: Seconds from one frame to the next.
        smooth: Seconds of the window of which the probabilities are means, see `Smoothing`; 0 is each frame by itself.
        batch_size: Frames in a batch.

    Yields:
        Seconds after the video's first frame and class probabilities (K,) on the CPU; the classes are
        `model.class_names`.

    Raises:
        FileNotFoundError: The file is missing.
        OSError: It is no readable video, or from some time on; what came before was yielded. The message does not name
            the file.
        ValueError: The model gives no numbers; or torchcodec or FFmpeg is missing.
    """
    channels, height, width = model.net.image_shape
    frames, smoothing = sampled_frames(path, frame_size((height, width)), every), Smoothing(smooth)
    while batch := list(islice(frames, batch_size)):
        images = normalise(torch.stack([frame for _, frame in batch]).to(model.device), channels).to(model.dtype)
        with torch.inference_mode():
            found = checked(model(images).float().softmax(dim=-1).cpu())
        for (seconds, _), probabilities in zip(batch, found, strict=True):
            smoothing.add(str(path), seconds, probabilities)
        yield from ((seconds or 0.0, mean) for _, seconds, mean in smoothing.ready())
    yield from ((seconds or 0.0, mean) for _, seconds, mean in smoothing.rest())


class Smoothing:
    """Means of a video's class probabilities over a centred window: of the frames at most half of it away in time.

    At both ends of a video the window has fewer frames. What is no frame, without a time, stays as it is; the order
    stays. Frames are given back as soon as all of their window is there.

    Args:
        seconds: The window's whole length; with 0 every frame stands by itself.
    """

    def __init__(self, seconds: float) -> None:
        self.alone = seconds == 0
        self.half = seconds / 2 + 1e-6  # times are sums of rounded numbers
        self.known: deque[tuple[str, float | None, Tensor]] = deque()
        self.done = 0  # of the known, which are kept for the windows of those that follow

    def add(self, path: str, seconds: float | None, probabilities: Tensor) -> None:
        """Takes the next frame's probabilities (K,)."""
        self.known.append((path, seconds, probabilities))

    def ready(self) -> Iterator[tuple[str, float | None, Tensor]]:
        """The frames whose windows are whole: path, seconds and mean (K,)."""
        while self.done < len(self.known):
            own = self.known[self.done]
            if own[1] is not None and not self.alone and self.near(own, self.known[-1]):
                break
            yield self.next()

    def rest(self) -> Iterator[tuple[str, float | None, Tensor]]:
        """All others, since no frame comes any more."""
        while self.done < len(self.known):
            yield self.next()

    def next(self) -> tuple[str, float | None, Tensor]:
        """The first frame that is not done."""
        path, seconds, probabilities = own = self.known[self.done]
        while not self.near(own, self.known[0]):
            self.known.popleft()
            self.done -= 1
        self.done += 1
        if seconds is not None and not self.alone:
            window = [each for each in self.known if self.near(own, each)]
            probabilities = torch.stack([each for _, _, each in window]).mean(dim=0)
        return path, seconds, probabilities

    def near(self, one: tuple[str, float | None, Tensor], other: tuple[str, float | None, Tensor]) -> bool:
        """Whether two are frames of one video in one window, or the same."""
        if one is other:
            return True
        first, second = one[1], other[1]
        return first is not None and second is not None and one[0] == other[0] and abs(first - second) <= self.half


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


def find_images(patterns: Sequence[str]) -> list[Path | str]:
    """What is to be labelled, each once, in order; addresses, and `INPUT` for `-`, as words.

    Pictures and videos by name as they are, folders with all pictures below them, globs with the pictures and videos
    that they match. Videos in a folder are left out, with a line: there may be a film beside its frames.

    Raises:
        FileNotFoundError: One of them leads to nothing.
        ValueError: One is empty, or no address that can be fetched; or there are videos, which cannot be read here.
    """
    found: dict[Path | str, None] = {}
    for pattern in patterns:
        if not pattern:
            raise ValueError("--images has an empty name; give image files, folders or quoted globs")
        path = expanded(pattern)
        images: Sequence[Path | str]
        if pattern == "-":
            images = [INPUT]
        elif is_url(pattern):
            check_url(pattern)
            images = [pattern]
        elif path.is_file():
            images = [named(path)]
        elif path.is_dir():
            images = folder_images(path)
        else:
            matches = map(Path, sorted(glob.glob(str(path), recursive=True)))  # noqa: PTH207  # absolute patterns too
            images = [match for match in matches if is_image(match) or (is_video(match) and match.is_file())]
        if not images:
            what = f"holds no image{other_files([path])}" if path.is_dir() else "does not exist and matches no image"
            raise FileNotFoundError(
                f"{pattern} {what}; give image files ({', '.join(FORMATS)}), folders or quoted globs of such, or videos"
            )
        found.update(dict.fromkeys(images))
    if any(map(is_video, found)):
        check_decoder()
    return list(found)


def folder_images(folder: Path) -> list[Path]:
    """All pictures below a folder, with a word on videos there."""
    left_out: Counter[str] = Counter()
    images = [named(folder / name) for name in image_names(folder, left_out)]
    kinds = {what.removesuffix(" file"): count for what, count in left_out.items() if what.startswith(VIDEOS)}
    if images and kinds:
        what = "1 video; name it" if sum(kinds.values()) == 1 else f"{sum(kinds.values())} videos; name them"
        log.info("left out in %s: %s, as %s/*%s, to label the frames", folder, what, folder, next(iter(kinds)))
    return images
