"""The article's way, written plainly: what one gets from following a tutorial, and what the others are held against.

    python -m benchmarks.plain FOLDER DROPOUT BATCH BATCHES      # the loop by itself: prints images a second

Separate projections, attention and layer norm written out, every dropout torch's own, fp32, AdamW with its defaults,
pictures decoded in full by the main process, and the loss fetched with `.item()` in every step.
"""

import itertools
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from vit_lightning.data.index import find_layout, find_samples
from vit_lightning.data.transforms import MEAN, STD


class PlainNorm(nn.Module):
    """Layer norm in five operations."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(dim))
        self.shift = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, over its last dimension."""
        mean = x.mean(dim=-1, keepdim=True)
        variance = x.var(dim=-1, keepdim=True, unbiased=False)
        return (x - mean) / torch.sqrt(variance + 1e-6) * self.scale + self.shift


class PlainAttention(nn.Module):
    """Multi-head self-attention with three projections of its own, which keeps its last attention to be looked at."""

    def __init__(self, dim: int, heads: int, rate: float) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.attention_dropout, self.out_dropout = nn.Dropout(rate), nn.Dropout(rate)
        self.seen: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        q, k, v = (
            layer(x).view(*x.shape[:2], self.heads, -1).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        attention = torch.softmax(torch.matmul(q, k.transpose(-2, -1)) / math.sqrt(q.shape[-1]), dim=-1)
        attention = self.attention_dropout(attention)
        self.seen = attention
        heads = torch.matmul(attention, v).transpose(1, 2).contiguous().view(x.shape)
        out: Tensor = self.out_dropout(self.out(heads))
        return out


class PlainBlock(nn.Module):
    """A pre-norm block."""

    def __init__(self, dim: int, heads: int, rate: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = PlainNorm(dim), PlainNorm(dim)
        self.attention = PlainAttention(dim, heads, rate)
        self.mlp = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.GELU(), nn.Dropout(rate), nn.Linear(4 * dim, dim), nn.Dropout(rate)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class PlainViT(nn.Module):
    """The article's model at the article's size."""

    def __init__(self, rate: float, dim: int = 256, depth: int = 6, heads: int = 8, classes: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, dim, kernel_size=16, stride=16)
        self.token = nn.Parameter(torch.randn(1, 1, dim))
        self.positions = nn.Parameter(torch.randn(1, 197, dim))
        self.dropout = nn.Dropout(rate)
        self.blocks = nn.Sequential(*(PlainBlock(dim, heads, rate) for _ in range(depth)))
        self.norm, self.head = PlainNorm(dim), nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 224, 224) -> (B, classes)."""
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.positions
        logits: Tensor = self.head(self.norm(self.blocks(self.dropout(x)))[:, 0])
        return logits


class PlainPictures(Dataset[tuple[Tensor, int]]):
    """Pictures decoded in full and augmented on their way to numbers."""

    def __init__(self, paths: Sequence[Path], labels: Sequence[int]) -> None:
        self.paths, self.labels = paths, labels
        self.transform = v2.Compose(
            [
                v2.RandomResizedCrop(224, scale=(0.8, 1.0)),
                v2.TrivialAugmentWide(),
                v2.RandomHorizontalFlip(0.5),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self.paths[index]) as image:
            picture: Tensor = self.transform(image.convert("RGB"))
        return picture, self.labels[index]


def plain_loader(paths: Sequence[Path], labels: Sequence[int], batch: int) -> DataLoader[tuple[Tensor, int]]:
    """Shuffled batches, made by the main process."""
    return DataLoader(PlainPictures(paths, labels), batch_size=batch, shuffle=True, drop_last=True)


def plain_step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> float:
    """One step of the loop, with the gradients' norm clipped to 1."""
    optimizer.zero_grad()
    loss = F.cross_entropy(model(images), labels)
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def plain_loop(root: Path, rate: float, batch: int, batches: int) -> float:
    """Images a second of the loop on a folder of pictures, loading and all, from its third batch on."""
    layout = find_layout(root)
    samples = find_samples(root, layout)
    labels = [layout.classes.index(sample.label) for sample in samples]
    loader = plain_loader([root / sample.path for sample in samples], labels, batch)
    model = PlainViT(rate)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    began = 0.0
    for number, (images, targets) in enumerate(itertools.chain.from_iterable(itertools.repeat(loader))):
        if number == 2:
            began = time.perf_counter()
        if number == 2 + batches:
            break
        plain_step(model, optimizer, images, targets)
    return batch * batches / (time.perf_counter() - began)


if __name__ == "__main__":
    print(plain_loop(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
