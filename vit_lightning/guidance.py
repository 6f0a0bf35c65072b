"""A small convolutional network that learns beside a ViT, and shows it what to look for (Li et al. 2022).

A ViT has to learn from its pictures what a convolution knows beforehand: that what lies side by side belongs together.
In "Locality Guidance for Improving Vision Transformers on Tiny Datasets" a CNN is trained on the same pictures first,
and the ViT's tokens then imitate its maps. Here both learn from the same batches at once: the CNN needs no passes of
its own over the pictures, and there are no two trainings to be kept in step. What predicts does not know of it.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from vit_lightning.checkpoint import check_weights
from vit_lightning.models.vit import VisionTransformer

#: The CNN's stages that halve the picture, in the order in which they are taken: for a patch side of 1 none, from 2 on
#: one of them, from 4 two, from 8 three, from 16 all.
HALVING = (1, 2, 0, 3)

#: Norm to which the CNN's gradients are shortened; the ViT's are clipped by themselves, as without it.
LONGEST = 1.0

Loss = Callable[[Tensor, Tensor], Tensor]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2016, figure 2 with batch normalisation)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, kernel_size=3, stride=stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(after)
        self.second = nn.Conv2d(after, after, kernel_size=3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(after)
        self.shortcut = nn.Conv2d(before, after, kernel_size=1, stride=stride, bias=False)
        self.shortcut_norm = nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride), rounded up."""
        inner = self.second_norm(self.second(F.relu(self.first_norm(self.first(x)))))
        return F.relu(inner + self.shortcut_norm(self.shortcut(x)))


class Guide(nn.Module):
    """The CNN, and what holds the ViT's tokens against its maps.

    A convolution and three residual blocks, of D / 8, D / 4, D / 2 and D channels for a ViT of width D. The tokens of
    the middle block imitate the third stage's map, those of the last block the fourth's.

    Args:
        net: The ViT, which pools by `gap`. Its blocks are listened to from here on, in training alone.
    """

    def __init__(self, net: VisionTransformer) -> None:
        super().__init__()
        channels, height, _ = net.image_shape
        self.grid = net.grid
        dim, depth = net.head.in_features, len(net.blocks)
        halved = HALVING[: (height // net.grid[0]).bit_length() - 1]
        widths = [max(1, dim >> left) for left in (3, 2, 1, 0)]
        strides = [2 if stage in halved else 1 for stage in range(4)]
        convolution = nn.Conv2d(channels, widths[0], kernel_size=3, stride=strides[0], padding=1, bias=False)
        stages: list[nn.Module] = [nn.Sequential(convolution, nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True))]
        stages += [ResidualBlock(widths[i - 1], widths[i], strides[i]) for i in (1, 2, 3)]
        self.stages = nn.ModuleList(stages)
        self.head = nn.Linear(dim, net.head.out_features)
        self.projections = nn.ModuleList(nn.Linear(dim, width) for width in widths[2:])
        self.tokens: dict[int, Tensor] = {}
        for place, block in enumerate((max(0, depth // 2 - 1), depth - 1)):
            net.blocks[block].register_forward_hook(partial(self.listen, place))

    def listen(self, place: int, block: nn.Module, arguments: object, tokens: Tensor) -> None:  # noqa: ARG002  # torch's signature
        """Keeps a block's tokens (B, N, D) of a training step."""
        if block.training:
            self.tokens[place] = tokens

    def maps(self, images: Tensor) -> list[Tensor]:
        """Images (B, C, H, W) -> the maps of the last two stages, (B, D / 2, ., .) and (B, D, ., .)."""
        found = []
        for stage in self.stages:
            images = stage(images)
            found.append(images)
        return found[2:]

    def forward(self, images: Tensor, labels: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        """What a batch that the ViT has just seen adds to its loss.

        Args:
            images: (B, C, H, W).
            labels: (B,).
            loss: Of logits (B, K) and labels.

        Returns:
            The CNN's own loss, which moves the CNN alone, and the mean squared error of the tokens' projections from
            the maps, which moves all else alone. The maps are averaged to the tokens' grid, and each channel has mean
            0 and deviation 1 in the batch.
        """
        maps = self.maps(images)
        own = loss(self.head(maps[-1].mean(dim=(2, 3))).float(), labels)
        distances = []
        for place, (found, projection) in enumerate(zip(maps, self.projections, strict=True)):
            wanted = F.adaptive_avg_pool2d(found.detach().float(), self.grid)
            deviation, mean = torch.std_mean(wanted, dim=(0, 2, 3), keepdim=True, correction=0)
            wanted = ((wanted - mean) / (deviation + 1e-3)).flatten(2).transpose(1, 2)  # B N D'
            distances.append(F.mse_loss(projection(self.tokens.pop(place)).float(), wanted))
        return own, torch.stack(distances).mean()


def check_guide(guide: float, net: VisionTransformer, ema: float | None) -> None:
    """Refuses what a guide cannot be trained beside.

    Raises:
        ValueError: It says what to change.
    """
    if not guide:
        return
    if net.pool != "gap":
        raise ValueError(
            "guide needs the last block's patch tokens, which pool cls lacks; give --model.pool gap or --model.guide 0"
        )
    if ema:
        raise ValueError("guide and ema do not go together; give --model.guide 0 or leave out --model.ema")
    if net.grid == (1, 1):  # whose maps' mean and deviation a last batch of one image does not have
        raise ValueError("guide needs more than one patch; give a smaller --model.patch_size or --model.guide 0")


class GuidedModule(LightningModule):
    """What a module with a `net` and the hyper-parameter `guide` does about its guide, if it has one.

    The guide is built by `fit`, and no part of the weights: a checkpoint has it in an entry of its own, which is read
    by a training that goes on and by nothing else.
    """

    net: VisionTransformer

    def __init__(self) -> None:
        super().__init__()
        self.guide: Guide | None = None
        self.fitting = False

    def setup(self, stage: str) -> None:
        """Builds the guide, before the weights of a training that goes on are read and the optimizer is built."""
        self.fitting = stage == "fit"
        if self.fitting and self.hparams["guide"] and self.guide is None:
            self.guide = Guide(self.net)

    def guidance(self, batch: tuple[Tensor, Tensor], loss: Loss) -> Tensor | float:
        """What the guide adds to the loss of a batch that the network has just seen, ()."""
        if self.guide is None:
            return 0.0
        own, distance = self.guide(*batch, loss)
        result: Tensor = own + self.hparams["guide"] * distance
        return result

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:  # noqa: ARG002  # Lightning's signature
        """Shortens the guide's gradients by themselves, so that the network's are clipped as without it."""
        if self.guide is not None:
            nn.utils.clip_grad_norm_(self.guide.parameters(), LONGEST)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the guide out of the weights."""
        if self.guide is not None:
            weights = checkpoint["state_dict"]
            names = [name for name in weights if name.startswith("guide.")]
            checkpoint["guide"] = {name.removeprefix("guide."): weights.pop(name) for name in names}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Puts it back where a training goes on; elsewhere a guide stays what it is.

        Raises:
            ValueError: The checkpoint's is another one, or there is one on one side alone.
        """
        saved = checkpoint.get("guide")
        if self.fitting and (saved is None) != (self.guide is None):
            told = "without a guide" if saved is None else "beside a guide"
            before = checkpoint.get("hyper_parameters", {}).get("guide", 0.0)
            raise ValueError(
                f"{self.trainer.ckpt_path} was trained {told}, and goes on so; give --model.guide {before:g}, or "
                "--model.init_from in place of --ckpt_path for a training that begins with its weights"
            )
        if self.guide is None:
            return
        if self.fitting:
            saved = saved if isinstance(saved, dict) else {}
            check_weights(Path(str(self.trainer.ckpt_path)), saved, self.guide)
        else:
            saved = self.guide.state_dict()
        checkpoint["state_dict"] |= {f"guide.{name}": tensor for name, tensor in saved.items()}
