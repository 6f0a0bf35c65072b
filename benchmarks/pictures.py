"""The pictures that the benchmarks work on: a folder that one names, or generated ones."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from vit_lightning.data.index import Sample, find_layout, find_samples

#: The article's frames have this size, most of them.
WIDTH, HEIGHT = 854, 480


@contextmanager
def folder_of_frames(named: str, count: int = 200) -> Iterator[Path]:
    """The named folder, or a temporary one of generated frames in two classes."""
    if named:
        yield Path(named)
        return
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        for index in range(count):
            coarse = rng.integers(0, 256, (27, 48, 3), dtype=np.uint8)
            path = Path(folder) / "frames" / f"class_{index % 2}" / f"frame{index}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(path, quality=85)
        yield Path(folder) / "frames"


def labelled(root: Path) -> tuple[list[Path], list[int], list[Sample]]:
    """All pictures of a folder, the numbers of their classes, and the samples they are."""
    layout = find_layout(root)
    samples = find_samples(root, layout)
    numbers = {name: number for number, name in enumerate(layout.classes)}
    return [root / sample.path for sample in samples], [numbers[sample.label] for sample in samples], samples
