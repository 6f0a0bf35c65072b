"""What a network makes of images before its head: kept for whoever wants a map, and searched for neighbours."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vit_lightning.data.frames import load_frame
from vit_lightning.data.index import Sample
from vit_lightning.data.splitting import Split
from vit_lightning.data.transforms import frame_size, normalise
from vit_lightning.files import replacing
from vit_lightning.models.vit import VisionTransformer
from vit_lightning.progress import track

Vectors = npt.NDArray[np.float32]

#: Images of training that are embedded at most, evenly spaced.
MOST = 10_000

#: Images that are embedded at a time.
AT_ONCE = 32

#: Training images that are shown beside a mistake.
NEIGHBOURS = 3

#: The file, in a report.
FILE = "embeddings.npz"


@dataclass(frozen=True)
class Embedded:
    """Images and what the network makes of them, in one order.

    Args:
        samples: The N images.
        vectors: What the head reads, (N, D).
    """

    samples: list[Sample]
    vectors: Vectors


@torch.inference_mode()
def embed(net: VisionTransformer, frames: Tensor) -> Vectors:
    """What the head reads of images: bytes (B, H, W, 3) of the network's size -> (B, D)."""
    weight, training = net.head.weight, net.training
    net.eval()
    try:
        images = normalise(frames.to(weight.device), net.image_shape[0]).to(weight.dtype)
        found: Vectors = net.pooled(net.encode(images)).float().cpu().numpy()
    finally:
        net.train(training)
    return found


def embed_samples(
    net: VisionTransformer, root: Path, samples: Sequence[Sample], what: str, most: int | None = None
) -> Embedded:
    """Embeds images, or at most so many of them, evenly spaced.

    Raises:
        OSError: A picture cannot be read.
    """
    chosen = list(samples[:: max(1, -(-len(samples) // most))] if most else samples)
    size = frame_size(net.image_shape[1:])
    vectors = np.zeros((len(chosen), net.head.in_features), dtype=np.float32)
    with (
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as executor,
        track(f"embedding {len(chosen):,} {what} images", total=len(chosen)) as advance,
    ):
        for start in range(0, len(chosen), AT_ONCE):
            part = chosen[start : start + AT_ONCE]
            frames = executor.map(lambda sample: load_frame(root / sample.path, size), part)
            vectors[start : start + len(part)] = embed(net, torch.stack(list(frames)))
            advance(len(part))
    return Embedded(chosen, vectors)


def unit(vectors: Vectors) -> Vectors:
    """The same of length 1, (N, D); angles compare better than lengths."""
    scaled: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return scaled


def embed_split(net: VisionTransformer, split: Split, part: str) -> tuple[Embedded, Embedded] | None:
    """Training images, at most `MOST`, and all of a held-out part; None where nothing trains.

    Raises:
        OSError: A picture cannot be read.
    """
    train = split.part("train")
    if not train:
        return None
    return (
        embed_samples(net, split.root, train, "training", MOST),
        embed_samples(net, split.root, split.part(part), "held-out"),
    )


def neighbours_of(train: Embedded, held: Embedded) -> Callable[[int], list[tuple[Sample, float]]]:
    """What gives the training images nearest to a held-out one, by its index, with their cosine."""
    return lambda index: nearest_of_groups(held.vectors[index], train, NEIGHBOURS)


def nearest_of_groups(vector: Vectors, train: Embedded, count: int) -> list[tuple[Sample, float]]:
    """The training images nearest to one by angle, one a group, with their cosine; (D,) against (N, D)."""
    similar = unit(train.vectors) @ unit(vector[None])[0]
    found: list[tuple[Sample, float]] = []
    groups: set[str] = set()
    for index in np.argsort(-similar, kind="stable"):
        sample = train.samples[index]
        if (sample.group or sample.path) not in groups:
            groups.add(sample.group or sample.path)
            found.append((sample, float(similar[index])))
        if len(found) == count:
            break
    return found


def write_embeddings(folder: Path, *parts: Embedded) -> None:
    """Writes `embeddings.npz`: `path`, `label`, `split`, `group` (N,) and `vector` (N, D), for `numpy.load`."""
    samples = [sample for part in parts for sample in part.samples]
    with replacing(folder / FILE) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            vector=np.concatenate([part.vectors for part in parts]),
            path=np.array([each.path for each in samples]),
            label=np.array([each.label for each in samples]),
            split=np.array([each.split for each in samples]),
            group=np.array([each.group for each in samples]),
        )
