"""Where a model looks: attention over the patches, and its picture."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vit_lightning.arguments import check_number
from vit_lightning.models.vit import VisionTransformer

#: Images whose attention is computed at a time: a block's maps are h N^2 numbers an image.
AT_ONCE = 8


@torch.inference_mode()
def attention_of(
    net: VisionTransformer,
    images: Tensor,
    kind: Literal["last", "rollout"] = "rollout",
    *,
    block: int | None = None,
    head: int | None = None,
) -> Tensor:
    """How much the output attends to each patch.

    Args:
        net: The network, on any device; it computes as in evaluation, and keeps its mode.
        images: Normalised images (B, C, H, W).
        kind: `last` is the last block's attention, averaged over the heads. `rollout` follows it through all blocks:
            the product of (A + I) / 2, A averaged over the heads and I for the residual connection (Abnar & Zuidema
            2020, "Quantifying Attention Flow in Transformers", section 3).
        block: Look at this block alone instead, from 0.
        head: With `block`, at this head of it alone, from 0; left out, at the mean over its heads.

    Returns:
        (B, rows, columns) of the patch grid, float32 on the CPU, none below 0, each map's sum 1. With pool `cls` it is
        the class token's attention, of which its share for itself is left out; with `gap`, which averages the tokens,
        the mean over theirs.

    Raises:
        ValueError: An unknown `kind`, a block or head that is not there, or images of another size than the network's.
    """
    if kind not in ("last", "rollout"):
        raise ValueError(f"attention is {kind!r}; choose 'last' or 'rollout'")
    check_number("block", block, least=0, most=len(net.blocks) - 1, whole=True, optional=True)
    check_number("head", head, least=0, most=net.blocks[0].attention.heads - 1, whole=True, optional=True)
    weight = net.head.weight
    images = images.to(weight.device, weight.dtype)
    training = net.training
    net.eval()
    try:
        maps = []
        for part in torch.split(images, AT_ONCE):
            # Not through __call__: a compiled network would be translated once more, for a handful of images.
            _, blocks = net.forward(part, return_attention=True)
            maps.append(flow(list(blocks), kind) if block is None else of_block(blocks[block], head))
    finally:
        net.train(training)
    attention = torch.cat([rows[:, 0, 1:] if net.pool == "cls" else rows.mean(dim=1) for rows in maps])  # B N
    attention = attention + torch.finfo(torch.float32).tiny  # a token that looks at itself alone leaves all 0: 1/N each
    return (attention / attention.sum(dim=1, keepdim=True)).view(-1, *net.grid).cpu()


def of_block(attention: Tensor, head: int | None) -> Tensor:
    """One head's attention of (B, h, N, N), or the mean over the heads: (B, N, N)."""
    return attention.float().mean(dim=1) if head is None else attention[:, head].float()


def flow(blocks: list[Tensor], kind: Literal["last", "rollout"]) -> Tensor:
    """Attention of each block (B, h, N, N) -> of the last block's tokens to the last block's, or the first's, inputs.

    Returns:
        (B, N, N), whose rows sum to 1.
    """
    by_block = [of_block(attention, None) for attention in blocks]  # B N N
    if kind == "last":
        return by_block[-1]
    product = torch.eye(by_block[0].shape[-1], device=by_block[0].device).expand_as(by_block[0])
    for attention in by_block:
        product = (attention @ product + product) / 2
    return product / product.sum(dim=-1, keepdim=True)


def overlay(picture: Tensor, attention: Tensor) -> Tensor:
    """The picture in dark grey, and over it the attention from black over red to yellow (matplotlib's inferno).

    That map grows lighter all the way, so that it reads in grey and to the colour-blind too. The least attended patch
    is black and the most attended one yellow, whatever their share: pictures do not compare with each other.

    Args:
        picture: Bytes (H, W, 3), of any size.
        attention: (rows, columns), as from `attention_of`.

    Returns:
        Bytes (H, W, 3).
    """
    from matplotlib import colormaps  # a third of a second, needed only here

    low, high = attention.min(), attention.max()
    # Differences of less than a hundredth are nothing to see; they stay dark.
    scaled = (attention.float() - low) / torch.maximum(high - low, high / 100)
    fine = F.interpolate(scaled[None, None], size=picture.shape[:2], mode="bicubic")[0, 0].clamp(0, 1).numpy()
    colours = (255 * colormaps["inferno"](np.arange(256))[:, :3]).astype(np.float32)[(255 * fine).astype(np.uint8)]
    grey = picture.numpy() @ np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
    share = (0.35 + 0.35 * fine)[..., None]  # of the colour: what is not attended is still to be recognised
    return torch.from_numpy((share * colours + (1 - share) * grey[..., None]).round().astype(np.uint8))
