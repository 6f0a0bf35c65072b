"""Pictures mixed with others of their batch; on whichever device they are."""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def cut_and_mix(
    batch: tuple[Tensor, Tensor], loss: Callable[[Tensor, Tensor], Tensor]
) -> tuple[tuple[Tensor, Tensor], Callable[[Tensor, Tensor], Tensor]]:
    """CutMix (Yun et al. 2019): in each image a rectangle is another one's of the batch, at the same place.

    Place and share are the batch's, the share uniform in [0, 1] as the paper's Beta(1, 1) is; at an edge the rectangle
    is cut off.

    Args:
        batch: Images (B, C, H, W), which stay as they are, and their labels (B,).
        loss: Of logits (B, K) and labels (B,).

    Returns:
        The mixed images with their own labels, and the loss of both labels by what each has of the image.
    """
    images, labels = batch
    height, width = images.shape[2:]
    share, row, column = torch.rand(3).tolist()
    half = math.sqrt(1.0 - share) / 2  # of the sides
    top, bottom = (round(height * min(max(row + end, 0.0), 1.0)) for end in (-half, half))
    left, right = (round(width * min(max(column + end, 0.0), 1.0)) for end in (-half, half))
    order = torch.randperm(len(images)).to(images.device)
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images[order, :, top:bottom, left:right]
    others, own = labels[order], 1.0 - (bottom - top) * (right - left) / (height * width)

    def shared(logits: Tensor, labels: Tensor) -> Tensor:
        both: Tensor = own * loss(logits, labels) + (1.0 - own) * loss(logits, others)
        return both

    return (mixed, labels), shared
