"""Many files: seconds and bytes a file that listing, looking through, splitting and decoding them take.

    python -m benchmarks.scale [--most 100000] [--json]

Tiny generated pictures in ten classes. `first` opens and decodes every file, `again` finds everything in the caches.
Memory is what Python's objects still hold after `setup`, loaders and all, measured by tracemalloc in a start of its
own: watching slows down what is watched.
"""

import gc
import io
import logging
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.measure import arguments, finish
from vit_lightning.data.datamodule import ImageDataModule


def generate(root: Path, count: int) -> None:
    """Pictures of 8 x 8 pixels; a thousand different ones."""
    rng = np.random.default_rng(0)
    contents = []
    for _ in range(min(count, 1000)):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(buffer, "PNG")
        contents.append(buffer.getvalue())
    for number in range(10):
        (root / f"class_{number}").mkdir(parents=True)
    for index in range(count):
        (root / f"class_{index % 10}" / f"image_{index:06}.png").write_bytes(contents[index % len(contents)])


def start(root: Path, cache: Path) -> tuple[ImageDataModule, float]:
    """A data module as `fit` has it at its first step, and the seconds that took."""
    began = time.perf_counter()
    data = ImageDataModule(root=str(root), image_size=8, num_workers=0, cache_dir=str(cache))
    data.prepare_data()
    data.setup("fit")
    data.loaders = (data.train_dataloader(), data.val_dataloader())  # type: ignore[attr-defined]  # kept alive
    next(iter(data.train_dataloader()))
    return data, time.perf_counter() - began


def main() -> None:
    """Measures, and prints what came out."""
    options = arguments(__doc__, most=100_000)
    logging.getLogger("vit_lightning").setLevel(logging.ERROR)
    counts = [count for count in (5_000, 20_000, 100_000) if count < options.most] + [options.most]
    rows = []
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            root, cache = Path(folder) / "set", Path(folder) / "cache"
            generate(root, count)
            first, again = start(root, cache)[1], start(root, cache)[1]
            gc.collect()
            tracemalloc.start()
            kept = start(root, cache)[0]
            gc.collect()
            held, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert len(kept.used_split.samples) == count
        rows.append((count, first / count, again / count, held / count, peak / count))
        print(
            f"{count:7,} files: first {first:5.1f} s, {1e6 * first / count:4.0f} us a file; again {again:5.2f} s, "
            f"{1e6 * again / count:4.1f} us; {held / count:4.0f} bytes a file held, {peak / count:4.0f} at most"
        )
    least, most = rows[0], rows[-1]
    finish(
        options,
        {"first_growth": most[1] / least[1], "again_growth": most[2] / least[2], "bytes_a_file": most[3]},
    )


if __name__ == "__main__":
    main()
