"""What the Vision Transformer is built with that is not of its paper: dropouts, resampling, and checks of arguments."""

import math
import os
from itertools import pairwise
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vit_lightning.arguments import both_sides, check_number, shown

#: Marks an argument of a network that its weights do not depend on: it may change while they stay.
FREE = "free of the weights"

#: Marks an argument of training that cannot change while a run goes on; the others can.
FROM_START = "for the whole run"

#: The largest size of anything: numbers far beyond it take hours to find that out.
LARGEST = 2**20

#: A share of what is dropped in training, in [0, 1).
Rate = Annotated[float, FREE]


class Dropout(nn.Module):
    """Sets a random share of the numbers to 0 and scales the others up so that the mean stays (Srivastava et al. 2014).

    On a CPU, torch's own draws a number for each, which took three tenths of a training step. Here the four 16-bit
    words of one 64-bit number decide four, so that the rate is right to 1 / 65536.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Any shape; in evaluation x itself."""
        if not self.training or self.rate == 0.0:
            return x
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return F.dropout(x, self.rate)
        count, dropped = x.numel(), min(round(self.rate * 2**16), 2**16 - 1)
        words = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
        kept = torch.ge(words[:count].view(x.shape), dropped - 2**15, out=torch.empty_like(x))  # 0.0 or 1.0
        return x * kept.mul_(2**16 / (2**16 - dropped))

    def extra_repr(self) -> str:
        """The rate, for `print(model)`."""
        return f"rate={self.rate}"


class DropPath(nn.Module):
    """Leaves a residual branch out for a random share of the images (stochastic depth, Huang et al. 2016)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D); in training, what is kept is scaled up so that the mean stays the same."""
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        return x * x.new_empty(x.shape[0], 1, 1).bernoulli_(keep).div_(keep)

    def extra_repr(self) -> str:
        """The rate, for `print(model)`."""
        return f"rate={self.rate}"


class ConvolutionalStem(nn.Module):
    """Patch tokens by a few convolutions in place of one projection (Xiao et al., "Early Convolutions", 2021).

    For a patch side of 2^n, n 3x3 convolutions of stride 2, each with batch normalisation and ReLU, double the channels
    up to D; a 1x1 convolution is the projection. The grid is that of the patches, but neighbouring tokens see common
    pixels, and small things are found wherever they are.

    Args:
        in_channels: C.
        patch_size: P, a power of two.
        dim: D, divisible by 2^(n - 1).

    Raises:
        ValueError: A patch side or width that cannot be halved so often.
    """

    def __init__(self, *, in_channels: int, patch_size: int, dim: int) -> None:
        super().__init__()
        halvings = patch_size.bit_length() - 1
        if patch_size != 2**halvings or halvings < 1:
            raise ValueError(f"stem conv halves the image up to the patch: patch_size {patch_size} is no power of two")
        if dim % 2 ** (halvings - 1):
            raise ValueError(
                f"stem conv doubles its channels up to dim: {dim} is not divisible by {2 ** (halvings - 1)}"
            )
        widths = [in_channels, *(dim >> left for left in reversed(range(halvings)))]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            convolution = nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1, bias=False)
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
            layers += [convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        self.convolutions = nn.Sequential(*layers)
        self.projection = nn.Conv2d(dim, dim, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, N, D) with N = HW / P^2, row by row from the top left."""
        x = self.projection(self.convolutions(x))  # B D H/P W/P
        return x.flatten(2).transpose(1, 2)  # B N D


def resample_positions(positions: Tensor, grid: tuple[int, int], new_grid: tuple[int, int]) -> Tensor:
    """Position embeddings for an image of another size, by bicubic interpolation over the grid (section 3.2).

    Args:
        positions: (1, N, D) for the patches row by row, or (1, N + 1, D) with the class token's first.
        grid: Rows and columns of patches that they were learnt on, with product N.
        new_grid: Rows and columns that are wanted, with product M.

    Returns:
        (1, M, D) or (1, M + 1, D); the class token's position stays as it is.
    """
    if grid == new_grid:
        return positions
    extra = positions.shape[1] - grid[0] * grid[1]
    patches = positions[:, extra:].reshape(1, *grid, -1).permute(0, 3, 1, 2)  # 1 D rows columns
    patches = F.interpolate(patches, size=new_grid, mode="bicubic", antialias=True)
    return torch.cat([positions[:, :extra], patches.flatten(2).transpose(1, 2)], dim=1)


def patch_grid(image_size: int | tuple[int, int], patch_size: int) -> tuple[int, int]:
    """Rows and columns of patches.

    Raises:
        ValueError: A side of the image is no multiple of the patch's.
    """
    height, width = both_sides("image_size", image_size)
    for name, side in (("height", height), ("width", width)):
        if side % patch_size:
            nearest = max(1, round(side / patch_size)) * patch_size
            raise ValueError(
                f"image {name} {side} is not divisible by patch_size {patch_size}; the nearest that is: {nearest}"
            )
    return height // patch_size, width // patch_size


def check_sizes(**sizes: object) -> None:
    """Refuses what is no whole number from 1 to `LARGEST`.

    Raises:
        ValueError: The message names the first one.
    """
    for name, value in sizes.items():
        check_number(name, value, least=1, most=LARGEST, whole=True)


def check_rates(**rates: object) -> None:
    """Refuses rates outside of [0, 1).

    Raises:
        ValueError: The message names the first one.
    """
    for name, rate in rates.items():
        check_number(name, rate, least=0, below=1)


def check_memory(weights: float, sizes: dict[str, object]) -> None:
    """Refuses a network whose weights alone, four bytes each, are more than this machine's memory.

    Args:
        weights: How many, roughly.
        sizes: The arguments that they follow from, for the message.

    Raises:
        ValueError: It names all of them.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else math.inf
    if 4 * weights > memory:
        words = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise ValueError(
            f"{words} make a network of {weights:.1e} weights, more than the {memory / 1e9:.0f} GB of this machine's "
            "memory hold; choose smaller ones"
        )


def name_classes(class_names: list[str] | None, num_classes: int | None) -> list[str]:
    """The classes' names; their numbers where only the number of classes is given.

    Raises:
        ValueError: Neither is given, or they do not agree.
    """
    if class_names is None and num_classes is None:
        raise ValueError("the model needs its classes: give model.class_names or model.num_classes")
    check_number("num_classes", num_classes, least=2, most=LARGEST, whole=True, optional=True)
    if class_names is not None:
        plain = isinstance(class_names, list | tuple) and all(isinstance(name, str) and name for name in class_names)
        if not plain or not class_names or len(set(class_names)) < len(class_names):
            raise ValueError(
                f"class_names is {shown(class_names)}; expected a list of names that differ, as in [cat,dog]"
            )
        if len(class_names) < 2:
            raise ValueError(f"class_names has the one class {class_names[0]}; a classifier needs at least two")
    names = [str(index) for index in range(num_classes or 0)] if class_names is None else class_names
    if num_classes is not None and num_classes != len(names):
        raise ValueError(
            f"model.num_classes is {num_classes}, but there are {len(names)} classes: {', '.join(names)}; leave "
            "num_classes out, or give the data those classes"
        )
    return names
