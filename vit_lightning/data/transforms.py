"""From a frame's bytes to the model's numbers, augmented or not."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

#: ImageNet's channel statistics, on which the article normalises.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

#: Shares of red, green and blue in the brightness (ITU-R BT.601), as Pillow turns colours into grey.
LUMA = (0.299, 0.587, 0.114)

#: Share of a picture's area that a crop keeps, and that of `strong`.
CROP_SHARE, STRONG_SHARE = (0.8, 1.0), (0.5, 1.0)

#: How far a crop's aspect may be from the picture's, either way.
STRETCH = 4 / 3

Augment = Literal["trivial", "strong", "light", "article", "none"]


@dataclass(frozen=True)
class FrameSize:
    """The size at which pictures are decoded for a model: no larger than what is done with them needs.

    Args:
        height: Of the model's image, in pixels.
        width: Of the model's image, in pixels.
        crop: What is done to them: nothing (`whole`), `CropNearly` (`near`; `half` down to half of the area), or
            torchvision's RandomResizedCrop with its aspects between 3:4 and 4:3 (`square`).
        spare: How many times as large a JPEG is decoded at least, if it is: what is left for the resizing. With 1 a
            model says something else of a picture in some hundreds.
    """

    height: int
    width: int
    crop: Literal["whole", "near", "half", "square"] = "whole"
    spare: int = 2

    def __call__(self, height: int, width: int) -> tuple[int, int]:
        """The frame's height and width for a picture of this size: a crop is enlarged only where the picture's is."""
        least = CROP_SHARE[0]
        if self.crop == "whole":
            return self.height, self.width
        if self.crop == "half":
            least = math.sqrt(STRONG_SHARE[0] / STRETCH)
        if self.crop in ("near", "half"):  # at least that share of either side
            return min(height, math.ceil(self.height / least)), min(width, math.ceil(self.width / least))
        # The shorter side of a crop; where no crop of that area and aspect fits, torchvision takes the middle.
        shorter = min(height, width, math.sqrt(least * height * width * 3 / 4))
        scale = min(1.0, max(self.height, self.width) / shorter)
        return math.ceil(height * scale), math.ceil(width * scale)

    def __str__(self) -> str:
        """What frames that may differ in a bit are kept apart by."""
        return f"{self.height}x{self.width}-{self.crop}{'' if self.spare == 2 else self.spare}"


def frame_size(image_size: tuple[int, int], augment: Augment = "none") -> FrameSize:
    """The frames that `train_transform` wants; without augmentation those of the held-out side too."""
    crops: dict[Augment, Literal["whole", "near", "half", "square"]]
    crops = {"none": "whole", "article": "square", "strong": "half"}
    return FrameSize(*image_size, crops.get(augment, "near"))


class CropNearly(v2.Transform):
    """Crops a share of the area, stretched by chance either way but near the picture's own aspect, and resizes.

    torchvision's RandomResizedCrop wants an aspect between 3:4 and 4:3: at that share of the area no such crop fits
    into a 16:9 frame, and it falls back to the frame's middle, always the same, without whoever stands at the sides.

    Args:
        image_size: Height and width in pixels of the result.
        share: The least and the largest share of the area.
    """

    def __init__(self, image_size: tuple[int, int], share: tuple[float, float] = CROP_SHARE) -> None:
        super().__init__()
        self.image_size = list(image_size)
        self.share = share

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draws a crop: the area's share s uniformly, the stretch log-uniformly from s to 1 / s, so that it fits.

        Nor is it beyond `STRETCH`, which a share of 3/4 or more does not reach.
        """
        height, width = functional.get_size(flat_inputs[0])
        share = float(torch.empty(1).uniform_(*self.share))
        stretch = max(share, 1 / STRETCH) ** float(torch.empty(1).uniform_(-1.0, 1.0))
        crop_height = max(1, round(height * math.sqrt(share / stretch)))
        crop_width = max(1, round(width * math.sqrt(share * stretch)))
        top = int(torch.randint(height - crop_height + 1, ()))
        left = int(torch.randint(width - crop_width + 1, ()))
        return {"top": top, "left": left, "height": crop_height, "width": crop_width}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:  # noqa: ANN401  # torchvision's signature
        """Crops and resizes."""
        return cut_out(inpt, params, self.image_size)


class CropSquarely(v2.RandomResizedCrop):
    """torchvision's RandomResizedCrop, which the article uses, on bytes that lie as `cut_out` wants them."""

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:  # noqa: ANN401  # torchvision's signature
        """Crops and resizes."""
        return cut_out(inpt, params, list(self.size))


def cut_out(frame: Tensor, box: dict[str, int], size: list[int]) -> Tensor:
    """The part of (3, h, w) within top, left, height and width, resized: (3, H, W).

    Its colours lie pixel by pixel in memory as in a file: torch resizes that in two thirds of the time.
    """
    cropped = functional.crop(frame, **box).permute(1, 2, 0).contiguous().permute(2, 0, 1)
    resized: Tensor = functional.resize(cropped, size, antialias=True)
    return resized


def train_transform(image_size: tuple[int, int], augment: Augment) -> v2.Transform:
    """The training side: bytes (3, h, w) of `frame_size` -> bytes (3, H, W).

    Args:
        image_size: Height and width in pixels.
        augment: `trivial` is `CropNearly`, TrivialAugmentWide (Mueller & Hutter 2021) and a flip of every second
            picture; `strong` crops down to half of the area and does TrivialAugmentWide twice; `light` leaves it
            out; `article` is `trivial` with the article's own crop, RandomResizedCrop; `none` changes nothing.
    """
    if augment == "none":
        return v2.Identity()
    share = STRONG_SHARE if augment == "strong" else CROP_SHARE
    crop = CropSquarely(image_size, scale=share) if augment == "article" else CropNearly(image_size, share)
    times = 2 if augment == "strong" else 1
    # Pillow turns and shears in a third of the time that torch takes.
    changes = [v2.TrivialAugmentWide() for _ in range(times)]
    colours = [] if augment == "light" else [v2.ToPILImage(), *changes, v2.PILToTensor()]
    return v2.Compose([crop, *colours, v2.RandomHorizontalFlip(0.5)])


def normalise(frames: Tensor, channels: int = 3) -> Tensor:
    """Bytes (B, H, W, 3) -> numbers near zero (B, C, H, W), on whichever device they are.

    Args:
        frames: Pictures in colour.
        channels: C, 3, or 1 for their brightness alone, whose statistics are those of the colours, mixed alike.
    """
    if channels == 1:
        luma = torch.tensor(LUMA, device=frames.device)
        mean, std = (255 * float(torch.tensor(values) @ luma.cpu()) for values in (MEAN, STD))
        return ((frames.float() @ luma).sub_(mean).div_(std))[:, None]
    width = frames.shape[2]
    mean_row, std_row = (255 * torch.tensor(values, device=frames.device).repeat(width) for values in (MEAN, STD))
    # A row of pixels at a time: three colours at a time take two and a half times as long.
    rows = frames.flatten(2).float().sub_(mean_row).div_(std_row)
    return rows.view(frames.shape).permute(0, 3, 1, 2)


def restored(images: Tensor) -> Tensor:
    """The way back from `normalise`, to be looked at: (B, C, H, W) -> bytes (B, H, W, 3), one channel as grey."""
    mean, std = (torch.tensor(values, device=images.device) for values in (MEAN, STD))
    if images.shape[1] == 1:
        luma = torch.tensor(LUMA, device=images.device)
        mean, std = (mean @ luma)[None], (std @ luma)[None]
    frames = 255 * (images.permute(0, 2, 3, 1).float() * std + mean)
    return frames.round().clamp(0, 255).to(torch.uint8).expand(-1, -1, -1, 3)
