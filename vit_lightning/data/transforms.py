"""From a picture file to a normalised tensor, on the training and on the held-out side."""

from pathlib import Path
from typing import Literal

import torch
from PIL import Image, ImageOps
from torchvision.transforms import v2

#: ImageNet's channel statistics, on which the article normalises.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Augment = Literal["trivial", "light", "none"]


def load_image(path: Path | str) -> Image.Image:
    """Opens a picture as upright RGB.

    Raises:
        FileNotFoundError: The file is missing.
        OSError: It is no readable picture.
    """
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError:
        raise
    except Exception as error:  # Pillow's decoders raise what they like
        raise OSError(f"{path} is no readable picture ({error}); mend it or take it away") from error


def eval_transform(image_size: tuple[int, int]) -> v2.Transform:
    """The article's held-out side: resize to (height, width) without cropping or keeping the aspect, normalise."""
    return v2.Compose([v2.Resize(image_size, antialias=True), *to_tensor()])


def train_transform(image_size: tuple[int, int], augment: Augment) -> v2.Transform:
    """The training side.

    Args:
        image_size: Height and width in pixels.
        augment: `trivial` is the article's: a crop of 80-100 % of the area, TrivialAugmentWide (Mueller & Hutter
            2021), a flip of every second picture. `light` is crop and flip alone, `none` the held-out side's.
    """
    if augment == "none":
        return eval_transform(image_size)
    steps: list[v2.Transform] = [v2.RandomResizedCrop(image_size, scale=(0.8, 1.0), antialias=True)]
    if augment == "trivial":
        steps.append(v2.TrivialAugmentWide())
    return v2.Compose([*steps, v2.RandomHorizontalFlip(0.5), *to_tensor()])


def to_tensor() -> list[v2.Transform]:
    """PIL image -> float tensor (3, H, W), normalised."""
    return [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
