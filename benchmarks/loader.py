"""Training batches a second and core, without a model; and what decoding once costs.

    python -m benchmarks.loader [--frames FOLDER] [--rounds 7] [--png FILE] [--json]

Every loader runs in the main process on one core (torch with one thread) and ends with normalised fp32 batches, ready
for the model: 224 px, crop, TrivialAugmentWide, flip. `plain` is the article's way. The cache is built by all cores and
held against the quickest way we know of opening each picture once on all cores without keeping anything.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from benchmarks.measure import Contender, arguments, draw, finish, interleave, ratio, show
from benchmarks.pictures import folder_of_frames, labelled
from benchmarks.plain import plain_loader
from vit_lightning.data.datamodule import ImageDataModule
from vit_lightning.data.frames import Cache, find_frames
from vit_lightning.data.images import load_image
from vit_lightning.data.loading import EpochSampler
from vit_lightning.data.transforms import frame_size


def ours(root: Path, cache: Cache, cache_dir: str, batch: int, workers: int = 0) -> Contender:
    """An epoch of this project's training batches."""
    data = ImageDataModule(
        root=str(root), val_fraction=0.0, batch_size=batch, num_workers=workers, cache=cache, cache_dir=cache_dir
    )
    data.prepare_data()
    data.setup("fit")
    loader = data.train_dataloader()
    assert isinstance(loader.sampler, EpochSampler)
    epochs = iter(range(1000))

    def work() -> float:
        loader.sampler.set_epoch(next(epochs))  # type: ignore[attr-defined]  # as asserted
        return sum(len(data.on_after_batch_transfer(one, 0)[0]) for one in loader)

    return work


def seconds_of(work: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def building(root: Path, rounds: int) -> tuple[float, float]:
    """The cache's building over opening each picture once, median of rounds in turn; and the second start's seconds."""
    paths, _, samples = labelled(root)
    names, size = [sample.path for sample in samples], frame_size((224, 224), "trivial")
    ratios, second = [], []

    def open_all() -> None:
        with ThreadPoolExecutor(os.cpu_count()) as executor:
            for _ in executor.map(lambda path: load_image(path).size, paths):
                pass

    open_all()  # the disk's own cache is warm for both
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            built = seconds_of(lambda: find_frames(root, names, size, cache="disk", cache_dir=Path(folder)))
            second.append(seconds_of(lambda: find_frames(root, names, size, cache="disk", cache_dir=Path(folder))))
        ratios.append(built / seconds_of(open_all))
    return statistics.median(ratios), statistics.median(second)


def main() -> None:
    """Measures, and prints what came out."""
    options = arguments(__doc__, batch=32, rounds=7)
    with folder_of_frames(options.frames) as root, tempfile.TemporaryDirectory() as cache:
        paths, labels, _ = labelled(root)
        build, second = building(root, options.rounds)
        torch.set_num_threads(1)
        loader = plain_loader(paths, labels, options.batch)
        contenders: dict[str, Contender] = {
            "ours (cache disk)": ours(root, "disk", cache, options.batch),
            "ours (cache memory)": ours(root, "memory", cache, options.batch),
            "ours (cache none)": ours(root, "none", cache, options.batch),
            "plain": lambda: sum(len(images) for images, _ in loader),
        }
        rates = interleave(contenders, rounds=options.rounds)
        title = f"loading, one core, {len(paths)} pictures, batch {options.batch}"
        show(title, rates, "plain")
        print(f"cache built in {build:.2f}x of decoding everything once on all cores; found again in {second:.3f} s")
        draw(options.png, {title: rates})
        to_plain = ratio(rates["ours (cache disk)"], rates["plain"])
        finish(options, {"to_plain": to_plain, "build_to_decode": build, "second_start_s": second})


if __name__ == "__main__":
    main()
