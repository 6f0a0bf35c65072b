"""From images to batches: what a data set gives by index, in which order it is asked, and in which processes."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NotRequired, TypedDict, TypeVar

import numpy as np
import torch
from lightning.fabric.utilities.seed import pl_worker_init_function
from lightning.pytorch import Trainer
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler
from torchvision.transforms import v2

from vit_lightning.data.frames import Frames, read_frame
from vit_lightning.data.transforms import FrameSize

Item = TypeVar("Item")


class LabelledImages(Dataset[tuple[Tensor, int]]):
    """Images as bytes (H, W, 3) with their class indices; augmented ones where a transform is given.

    What the transform draws depends on the seed, the epoch and the image alone: it is the same however many devices
    and loader processes there are, and in a run that was resumed.

    Args:
        frames: The images.
        labels: Their class indices.
        transform: From bytes (3, h, w) to bytes (3, H, W).
        seed: Of what the transform draws.
    """

    def __init__(
        self, frames: Frames, labels: Sequence[int], transform: v2.Transform | None = None, seed: int = 0
    ) -> None:
        self.frames = frames
        self.labels = np.array(labels)
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: int | tuple[int, int]) -> tuple[Tensor, int]:
        """An image by its index, or by epoch and index as `EpochSampler` gives them."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        frame = self.frames[index]
        if self.transform is not None:
            with drawing(self.seed, epoch, index):
                frame = self.transform(frame.permute(2, 0, 1)).permute(1, 2, 0)
        return frame, int(self.labels[index])


class UnlabelledImages(Dataset[tuple[Tensor, str, str]]):
    """Images as bytes (H, W, 3) with their paths and why they cannot be read, or ''; the image is black there.

    Args:
        paths: Or addresses.
        size: Of the images.
        file_of: Gives the file of a path; what is no file yet is fetched.
    """

    def __init__(
        self, paths: Sequence[Path | str], size: FrameSize, file_of: Callable[[Path | str], Path] = Path
    ) -> None:
        self.paths = paths
        self.size = size
        self.file_of = file_of

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, str, str]:
        path = self.paths[index]
        try:
            return read_frame(self.file_of(path), self.size), str(path), ""
        except OSError as error:  # the others' labels are still wanted
            return self.black(), str(path), error.strerror or str(error)

    def black(self) -> Tensor:
        """What stands for an image that is not there."""
        return torch.zeros(self.size.height, self.size.width, 3, dtype=torch.uint8)


class Prediction(TypedDict):
    """What a model says of a batch of `UnlabelledImages`, or of `PicturesAndFrames`."""

    path: list[str]  # of those that could be read
    times: NotRequired[list[float | None]]  # where there are videos, as many: seconds, None of a picture
    probabilities: Tensor  # (B, K), as many
    unreadable: dict[str, str]  # the other paths, with the reason


def predicted(batch: Sequence[Any], probabilities: Tensor) -> Prediction:
    """What a model's probabilities (B, K) say of a batch; those of black images are nobody's."""
    _, paths, reasons, *rest = batch
    readable = [index for index, reason in enumerate(reasons) if not reason]
    result: Prediction = {
        "path": [paths[index] for index in readable],
        "probabilities": probabilities[readable],
        "unreadable": {path: reason for path, reason in zip(paths, reasons, strict=True) if reason},
    }
    for words in rest:
        result["times"] = [float(words[index]) if words[index] else None for index in readable]
    return result


class EpochSampler(DistributedSampler[Any]):
    """Epoch and index of this device's share of the images, in an order that seed and epoch decide.

    Of the epoch in which a run goes on, `had` says how many of the share were trained on already: they are left out.
    Its length stays the whole share's, by which Lightning counts.

    The epoch travels with each index, since loader processes that live on through all epochs have a copy of the data
    set: they would not hear of an epoch that is set in this process.
    """

    #: The epoch that goes on, and how many images of the share it has had.
    had: tuple[int, int] = (0, 0)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.epoch  # Lightning may set the next one while this one is under way
        had = self.had[1] if epoch == self.had[0] else 0
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.dataset)).tolist()  # type: ignore[arg-type]  # ours have a length
        order += order[: self.total_size - len(order)]  # every device has as many
        return ((epoch, index) for index in order[self.rank :: self.num_replicas][had:])


@contextmanager
def drawing(*key: int) -> Iterator[None]:
    """Torch draws what the numbers of the key decide; afterwards it goes on as if nothing had been drawn."""
    generator = torch.default_generator
    state = generator.get_state()
    generator.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
    try:
        yield
    finally:
        generator.set_state(state)


def build_loader(
    dataset: Dataset[Item],
    batch_size: int,
    *,
    workers: int,
    devices: int = 1,
    rank: int = 0,
    shuffle_from: tuple[int, int] | None = None,
) -> DataLoader[Item]:
    """A loader of one device's share of the images; what is not shuffled comes exactly once over all devices.

    The samplers are ours from the start: Lightning would put its own in their place, which repeats some images so that
    every device has the same number, and a score would count those twice.

    Args:
        dataset: All images, the same on every device.
        batch_size: Of this device.
        workers: Loader processes; 0 loads in this one.
        devices: How many share the images.
        rank: Which of them this is.
        shuffle_from: Shuffle anew in every epoch, from this one on, of which so many batches are done; left out, the
            images keep their order.
    """
    sampler: DistributedSampler[Any] | None = None
    if shuffle_from is not None:
        sampler = EpochSampler(dataset, num_replicas=devices, rank=rank, shuffle=True, seed=global_seed())
        # Lightning sets the epoch too, but in a resumed run only after its first order was taken: epoch 0's once more.
        epoch, batches = shuffle_from
        sampler.set_epoch(epoch)
        sampler.had = epoch, batches * batch_size
    elif devices > 1:
        sampler = UnrepeatedDistributedSampler(dataset, num_replicas=devices, rank=rank, shuffle=False)
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        worker_init_fn=start_worker,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


def default_workers(images: int, batch_size: int) -> int:
    """Loader processes that suit the hardware, for so many images in batches of this size over all devices."""
    if images <= 2 * batch_size:
        return 0  # starting processes costs more than reading a few pictures
    own_processor = torch.cuda.is_available() or torch.backends.mps.is_available()
    return min(8, available_cores() // (1 if own_processor else 4))


def start_worker(worker: int) -> None:
    """Seeds a loader process as Lightning would, and leaves Ctrl-C, which reaches all processes, to the main one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pl_worker_init_function(worker)


def progress(trainer: Trainer) -> tuple[int, int]:
    """How many whole epochs a training has done, and how many batches of the next one."""
    epochs: Any = trainer.fit_loop.epoch_progress.current
    batches: Any = trainer.fit_loop.epoch_loop.batch_progress.current
    return epochs.processed, batches.processed if epochs.processed < epochs.started else 0


def global_seed() -> int:
    """The run's seed, which Lightning's `seed_everything` keeps in the environment; 0 without one."""
    return int(os.environ.get("PL_GLOBAL_SEED", "0"))


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
