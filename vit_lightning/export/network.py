"""What is exported: from pictures of any size to probabilities, with all that `predict` does to them in between."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vit_lightning.data.transforms import normalise
from vit_lightning.models.vit import VisionTransformer

#: Bits of a weight with its sign where torch resizes bytes, and the most that it shifts by.
BITS, MOST_SHIFT = 15, 22


class PictureClassifier(nn.Module):
    """Pictures as they were decoded -> class probabilities and embeddings.

    Args:
        net: A trained network, in evaluation mode.
        integers: Whether to resize as torch does on this machine's processor: in whole numbers (x86 with AVX2), or in
            fractions. They differ by one step of 255 in some pixels.
        train: Embeddings of training images, each of length 1, (N, D).
    """

    train_embeddings: Tensor | None

    def __init__(self, net: VisionTransformer, *, integers: bool, train: Tensor | None = None) -> None:
        super().__init__()
        self.net = net
        self.integers = integers
        self.register_buffer("train_embeddings", train)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Bytes (B, h, w, 3) of any h and w -> probabilities (B, K) and embeddings (B, D), what the head reads.

        With `train` also how far they are from training, (B,), see `vit_lightning/evaluation/strangers.py`.
        """
        channels, height, width = self.net.image_shape
        pixels = images.permute(0, 3, 1, 2).float()  # B 3 h w
        if self.integers:
            across, down = weights_of_bytes(pixels.shape[3], width), weights_of_bytes(pixels.shape[2], height)
            pixels = resized(lambda pixels, weights: pixels @ weights.T, pixels, *across)  # B 3 h W
            pixels = resized(lambda pixels, weights: weights @ pixels, pixels, *down)  # B 3 H W
        else:
            pixels = F.interpolate(pixels, (height, width), mode="bilinear", antialias=True).round().clamp(0, 255)
        embeddings = self.net.pooled(self.net.encode(normalise(pixels.permute(0, 2, 3, 1), channels)))
        found = self.net.head(embeddings).softmax(dim=-1), embeddings
        if self.train_embeddings is None:
            return found
        return *found, 1.0 - (F.normalize(embeddings, dim=-1) @ self.train_embeddings.T).amax(dim=-1)


def weights_of_bytes(size: int, new_size: int) -> tuple[Tensor, Tensor]:
    """What each pixel of a row gives to each of the resized row, in torch's whole numbers for bytes.

    The antialiased bilinear filter is a triangle as wide as the reduction; its weights are scaled by a power of two
    that leaves the largest 15 bits (`compute_index_ranges_int16_weights` in torch's UpSampleKernel). It follows Pillow,
    which has more bits.

    Args:
        size: Pixels of the row.
        new_size: Pixels of the resized one.

    Returns:
        Whole numbers (new_size, size), and the power of two by which their sums are divided, both as fractions.
    """
    scale = torch.tensor(1.0, dtype=torch.float64) * size / new_size
    support = scale.clamp(min=1.0)
    centre = scale * (torch.arange(new_size, dtype=torch.float64) + 0.5)  # H
    first = (centre - support + 0.5).floor().clamp(min=0)
    end = (centre + support + 0.5).floor().clamp(max=size)
    place = torch.arange(size, dtype=torch.float64)  # h
    within = (place >= first[:, None]) & (place < end[:, None])  # H h
    triangle = (1.0 - ((place - centre[:, None] + 0.5) / support).abs()).clamp(min=0.0) * within
    weights = triangle / triangle.sum(dim=1, keepdim=True)
    shifts = 2.0 ** torch.arange(1, MOST_SHIFT + 1, dtype=torch.float64)
    shift = 2.0 ** ((weights.max() * shifts + 0.5).floor() < 2**BITS).sum().double()
    return (weights * shift + 0.5).floor().float(), shift.float()


def resized(multiply: Callable[[Tensor, Tensor], Tensor], pixels: Tensor, weights: Tensor, shift: Tensor) -> Tensor:
    """Bytes, resized along one side: `floor(sum / shift + 1/2)`, exactly.

    Args:
        multiply: Sums pixels over weights along that side.
        pixels: Any shape that it takes.
        weights: Of `weights_of_bytes`.
        shift: Likewise.
    """
    # With a reduction by more than about four, sums pass 2^24, above which float32 has not every whole number.
    # Shares of `shift`, a power of two, are as exact as whole numbers.
    ways = partial(in_halves, multiply), partial(at_once, multiply)
    found: Tensor = torch.cond(shift > 2**16, *ways, (pixels, weights / shift, shift))
    return found


def at_once(multiply: Callable[[Tensor, Tensor], Tensor], pixels: Tensor, shares: Tensor, shift: Tensor) -> Tensor:
    """As `resized`, of sums below 2^24; `shares` are weights / `shift`, and sum up to 1 within a rounding."""
    del shift
    return (multiply(pixels, shares) + 0.5).floor()


def in_halves(multiply: Callable[[Tensor, Tensor], Tensor], pixels: Tensor, shares: Tensor, shift: Tensor) -> Tensor:
    """As `at_once`, of any sums: the weights as 256 `high` + `low`, whose sums are exact.

    What is left of those over `low` below 256 cannot change the result, since `shift` is 512 or more.
    """
    unit = 256 / shift
    high = (shares / unit).floor() * unit
    low = (multiply(pixels, shares - high) / unit).floor() * unit
    return (multiply(pixels, high) + low + 0.5).floor()
