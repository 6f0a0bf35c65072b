"""From a picture to a normalised tensor, on the training and on the held-out side."""

import math
from typing import Any, Literal

import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

#: ImageNet's channel statistics, on which the article normalises.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

#: Share of a picture's area that a crop keeps.
CROP_SHARE = (0.8, 1.0)

Augment = Literal["trivial", "light", "article", "none"]


def eval_transform(image_size: tuple[int, int]) -> v2.Transform:
    """The article's held-out side: resize to (height, width) without cropping or keeping the aspect, normalise."""
    return v2.Compose([v2.Resize(image_size, antialias=True), *to_tensor()])


class CropNearly(v2.Transform):
    """Crops 80-100 % of the area, stretched by chance either way but near the picture's own aspect, and resizes.

    torchvision's RandomResizedCrop wants an aspect between 3:4 and 4:3: at that share of the area no such crop fits
    into a 16:9 frame, and it falls back to the frame's middle, always the same, without whoever stands at the sides.

    Args:
        image_size: Height and width in pixels of the result.
    """

    def __init__(self, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.image_size = list(image_size)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draws a crop: the area's share s uniformly, the stretch log-uniformly from s to 1 / s, so that it fits."""
        height, width = functional.get_size(flat_inputs[0])
        share = float(torch.empty(1).uniform_(*CROP_SHARE))
        stretch = share ** float(torch.empty(1).uniform_(-1.0, 1.0))
        crop_height = max(1, round(height * math.sqrt(share / stretch)))
        crop_width = max(1, round(width * math.sqrt(share * stretch)))
        top = int(torch.randint(height - crop_height + 1, ()))
        left = int(torch.randint(width - crop_width + 1, ()))
        return {"top": top, "left": left, "height": crop_height, "width": crop_width}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:  # noqa: ANN401  # torchvision's signature
        """Crops and resizes."""
        return functional.resized_crop(inpt, **params, size=self.image_size, antialias=True)


def train_transform(image_size: tuple[int, int], augment: Augment) -> v2.Transform:
    """The training side.

    Args:
        image_size: Height and width in pixels.
        augment: `trivial` is `CropNearly`, TrivialAugmentWide (Mueller & Hutter 2021) and a flip of every second
            picture; `light` leaves TrivialAugmentWide out; `article` is `trivial` with the article's own crop,
            RandomResizedCrop; `none` is the held-out side's transform.
    """
    if augment == "none":
        return eval_transform(image_size)
    crop = v2.RandomResizedCrop(image_size, scale=CROP_SHARE) if augment == "article" else CropNearly(image_size)
    colours = [] if augment == "light" else [v2.TrivialAugmentWide()]
    return v2.Compose([crop, *colours, v2.RandomHorizontalFlip(0.5), *to_tensor()])


def to_tensor() -> list[v2.Transform]:
    """PIL image -> float tensor (3, H, W), normalised."""
    return [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
