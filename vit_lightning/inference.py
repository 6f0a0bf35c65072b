"""Using a trained model: from a run or a checkpoint to labels, without a Trainer."""

import glob
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from vit_lightning.data.index import images_below, is_image
from vit_lightning.data.transforms import eval_transform, load_image
from vit_lightning.module import ViTClassifier
from vit_lightning.runs import LOG_FOLDER, find_checkpoint


def load_classifier(run: str | Path | None = None, *, logs: Path | str = LOG_FOLDER) -> ViTClassifier:
    """Rebuilds a trained model from what its checkpoint holds; nothing needs to be said again.

    Args:
        run: A run's name or folder, a `.ckpt` file, `best`, or None for the latest finished run.
        logs: The log folder.

    Returns:
        The model on the CPU, in evaluation mode.

    Raises:
        FileNotFoundError: There is no such run or checkpoint.
    """
    path, _ = find_checkpoint(None if run is None else str(run), Path(logs))
    return ViTClassifier.load_from_checkpoint(path, map_location="cpu").eval()


@torch.inference_mode()
def predict_paths(
    model: ViTClassifier, paths: Iterable[Path | str], *, batch_size: int = 32
) -> Iterator[tuple[str, Tensor]]:
    """Labels image files, a batch at a time.

    Args:
        model: From `load_classifier`, on any device.
        paths: Image files.
        batch_size: Images in memory at a time.

    Yields:
        Path and class probabilities (K,) on the CPU; the classes are `model.class_names`.
    """
    _, height, width = model.net.image_shape
    transform = eval_transform((height, width))
    todo = [str(path) for path in paths]
    for start in range(0, len(todo), batch_size):
        chunk = todo[start : start + batch_size]
        images = torch.stack([transform(load_image(path)) for path in chunk]).to(model.device)
        yield from zip(chunk, model(images).float().softmax(dim=-1).cpu(), strict=True)


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
        path = Path(pattern).expanduser()
        if path.is_file():
            images = [path]
        elif path.is_dir():
            images = list(images_below(path))
        else:
            images = [match for match in map(Path, sorted(glob.glob(str(path), recursive=True))) if is_image(match)]  # noqa: PTH207  # absolute patterns too
        if not images:
            what = "holds no image" if path.is_dir() else "does not exist and matches no image"
            raise FileNotFoundError(f"{pattern} {what}; give image files, folders or quoted globs")
        found.update(dict.fromkeys(images))
    return list(found)
