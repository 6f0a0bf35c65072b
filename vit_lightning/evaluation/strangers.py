"""Pictures that are none of the model's business: how far they are from all that it was trained on.

The score is the angle to the nearest training image in embedding (Sun et al. 2022, arXiv 2204.06507, with k = 1).
Beside the energy of the logits (Liu et al. 2020, arXiv 2010.03759) it was the better by measurement, see
docs/evaluation.md.
"""

import logging
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vit_lightning.data.frames import load_frame
from vit_lightning.data.index import image_names
from vit_lightning.data.transforms import frame_size
from vit_lightning.evaluation.embeddings import AT_ONCE, FILE, Embedded, Vectors, embed, unit
from vit_lightning.evaluation.metrics import Array
from vit_lightning.models.vit import VisionTransformer
from vit_lightning.progress import track
from vit_lightning.runs import finite

log = logging.getLogger(__name__)

#: The share of held-out images that are no strangers.
SHARE = 0.95

#: Foreign pictures of a kind that are looked at.
LOOKED_AT = 200


class Nearness:
    """How far images are from all of training.

    Args:
        train: What the head reads of the training images, (N, D).
        limit: The distance from which an image is a stranger.
    """

    def __init__(self, train: Vectors, limit: float = 2.0) -> None:
        self.train = unit(train)
        self.limit = limit

    def distances(self, vectors: Vectors) -> Array:
        """1 - the cosine to the nearest training image, (B, D) -> (B,)."""
        parts = [
            1.0 - (unit(part) @ self.train.T).max(axis=1) for part in np.split(vectors, range(1000, len(vectors), 1000))
        ]
        found: Array = np.concatenate(parts).astype(np.float64)
        return found

    def strange(self, vectors: Vectors) -> list[bool]:
        """Whether each is a stranger, (B, D)."""
        return [bool(each > self.limit) for each in self.distances(vectors)]


def energies(net: VisionTransformer, vectors: Vectors) -> Array:
    """Minus the log of the summed exponentials of the logits, (B, D) -> (B,)."""
    with torch.inference_mode():
        logits = net.head(torch.from_numpy(vectors).to(net.head.weight))
    found: Array = -logits.double().logsumexp(dim=-1).cpu().numpy()
    return found


def foreign_pictures(folders: Sequence[Path]) -> dict[str, list[Path]]:
    """The pictures of `--strangers` by the name of their folder.

    Raises:
        ValueError: A folder is missing or has none, or two have the same name.
    """
    found: dict[str, list[Path]] = {}
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{folder} is no folder; give --strangers folders of pictures")
        kind = folder.resolve().name
        if kind in found:
            raise ValueError(f"--strangers has two folders {kind}; the report could not tell them apart, rename one")
        found[kind] = [folder / name for name in image_names(folder, Counter())]
        if not found[kind]:
            raise ValueError(f"{folder} holds no picture; give --strangers folders of pictures")
    return found


def find_strangers(
    net: VisionTransformer,
    root: Path,
    embedded: tuple[Embedded, Embedded],
    pictures: Mapping[str, Sequence[Path]],
) -> dict[str, Any]:
    """The section `strangers` of `metrics.json`: the threshold, and how well foreign pictures are told apart.

    Args:
        net: The network.
        root: Of the images.
        embedded: Training and held-out images.
        pictures: Foreign ones by kind, beside noise and the held-out images with their patches shuffled.

    Raises:
        OSError: A picture cannot be read.
    """
    from sklearn.metrics import roc_auc_score

    train, held = embedded
    near = Nearness(train.vectors)
    own = {"distance": near.distances(held.vectors), "energy": energies(net, held.vectors)}
    kinds: dict[str, Any] = {}
    for name, frames in foreign(net, root, held, pictures).items():
        vectors = np.concatenate([embed(net, part) for part in torch.split(frames, AT_ONCE)])
        theirs = {"distance": near.distances(vectors), "energy": energies(net, vectors)}
        truth = np.repeat([0, 1], [len(held.samples), len(vectors)])
        kinds[name] = {"images": len(vectors)} | {
            score: float(roc_auc_score(truth, np.concatenate([own[score], theirs[score]]))) for score in own
        }
    return {"share": SHARE, "threshold": float(np.quantile(own["distance"], SHARE)), "auroc": kinds}


def foreign(
    net: VisionTransformer, root: Path, held: Embedded, pictures: Mapping[str, Sequence[Path]]
) -> dict[str, Tensor]:
    """Foreign pictures by kind, bytes (B, H, W, 3) of the network's size."""
    size, rng = frame_size(net.image_shape[1:]), np.random.default_rng(0)
    paths = {"": [root / sample.path for sample in held.samples], **pictures}
    chosen = {name: each[:: max(1, -(-len(each) // LOOKED_AT))] for name, each in paths.items()}
    with track("reading foreign pictures", total=sum(map(len, chosen.values()))) as advance:
        found = {}
        for name, each in chosen.items():
            frames = []
            for path in each:
                frames.append(load_frame(path, size))
                advance(1)
            found[name] = torch.stack(frames)
    own = found.pop("")
    noise = torch.from_numpy(rng.integers(0, 256, own.shape, dtype=np.uint8))
    return {"noise": noise, "shuffled patches": shuffled(own, net.image_shape[1] // net.grid[0], rng), **found}


def shuffled(frames: Tensor, side: int, rng: np.random.Generator) -> Tensor:
    """Images with their patches in another order, each its own: bytes (B, H, W, 3)."""
    count, height, width, channels = frames.shape
    rows, columns = height // side, width // side
    patches = frames.view(count, rows, side, columns, side, channels).transpose(2, 3).flatten(1, 2)
    mixed = torch.stack([each[torch.from_numpy(rng.permutation(rows * columns))] for each in patches])
    return mixed.view(count, rows, columns, side, side, channels).transpose(2, 3).reshape(frames.shape)


def read_nearness(run: Path | None, kept: Any) -> Nearness | None:  # noqa: ANN401  # whatever a file holds
    """What a run goes by: the threshold that was kept, and the embeddings beside it; None without either, or a run."""
    limit = finite(kept.get("threshold")) if isinstance(kept, Mapping) else None
    if run is None or limit is None:
        return None
    try:
        with np.load(run / "report" / FILE, allow_pickle=False) as file:
            vectors = file["vector"][file["split"] == "train"]
            if vectors.ndim != 2 or not len(vectors) or not np.isfinite(vectors).all():
                raise ValueError("it has no vectors of training images")
            return Nearness(vectors.astype(np.float32), limit)
    except (OSError, LookupError, ValueError, TypeError, zipfile.BadZipFile) as error:
        log.warning("strangers are not told: %s cannot be read (%s); test the run again", run / "report" / FILE, error)
        return None


def stranger_words(section: Mapping[str, Any]) -> str:
    """How well foreign pictures are told apart."""
    told = ", ".join(f"{name} {each['distance']:.2f}" for name, each in list(section["auroc"].items())[:2])
    return f"strangers are told apart with AUROC {told}"
