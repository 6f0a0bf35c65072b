"""The LightningDataModule: one source of images, one split, loaders for every stage."""

import hashlib
import logging
import os
import signal
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import platformdirs
import torch
from filelock import FileLock
from lightning.fabric.utilities.seed import pl_worker_init_function
from lightning.pytorch import LightningDataModule
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler
from torchvision.transforms import v2

from vit_lightning.data import demo, kaggle
from vit_lightning.data.frames import Cache, Frames, find_frames, read_frame
from vit_lightning.data.index import Layout, Sample, find_layout, find_samples
from vit_lightning.data.near_duplicates import Thumbnails, distances, duplicate_groups, read_thumbnails
from vit_lightning.data.scan import first_few, memory_file, scan_pictures, write_unreadable
from vit_lightning.data.splits import (
    PARTS,
    Fold,
    count_table,
    drop_repeats,
    group_samples,
    hold_out,
    read_split,
    split_blocks,
    split_folders,
    split_random,
    take_subset,
)
from vit_lightning.data.transforms import Augment, FrameSize, frame_size, normalise, train_transform
from vit_lightning.progress import track

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Source = Literal["kaggle", "demo", "folder"]


def find_classes(source: Source, root: str | None) -> list[str]:
    """The classes in the order of the model's outputs, without downloading, drawing or opening anything.

    Raises:
        FileNotFoundError: The root is missing.
        ValueError: No root for a folder, or no class folders in it.
    """
    if root is not None:
        return find_layout(Path(root).expanduser()).classes
    if source == "folder":
        raise ValueError("data.source is folder, but no folder is given: add --data.root PATH")
    return list(kaggle.CLASSES)  # the demo's classes are the same


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
    """Images as bytes (H, W, 3) with their paths and why they cannot be read, or ''; the image is black there."""

    def __init__(self, paths: Sequence[Path], size: FrameSize) -> None:
        self.paths = paths
        self.size = size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, str, str]:
        path = self.paths[index]
        try:
            return read_frame(path, self.size), str(path), ""
        except OSError as error:  # the others' labels are still wanted
            black = torch.zeros(self.size.height, self.size.width, 3, dtype=torch.uint8)
            return black, str(path), error.strerror or str(error)


class EpochSampler(DistributedSampler[Any]):
    """Epoch and index of this device's share of the images, in an order that seed and epoch decide."""

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.epoch  # Lightning may set the next one while this one is under way
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.dataset)).tolist()  # type: ignore[arg-type]  # ours have a length
        order += order[: self.total_size - len(order)]  # every device has as many
        return ((epoch, index) for index in order[self.rank :: self.num_replicas])


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


class ImageDataModule(LightningDataModule):
    """Images of a folder, of Kaggle's Tom & Jerry set or of the drawn demo, split and augmented.

    Args:
        source: `kaggle` downloads the Tom & Jerry frames, `demo` draws cartoon frames, `folder` takes `root`.
        root: Folder of class folders, Kaggle's nested layout, or train / val / test folders; makes the source a
            folder.
        image_size: Side in pixels, or (height, width); on the command line it is the model's.
        split: `random`, `blocks` (runs of frame numbers held out whole), `groups` (see `group_by`), `folders`
            (ready-made), or a CSV file with path,label,split and, if there are groups, group. Left out: `folders` where
            the root has them, else `random`.
        val_fraction: Share of the images (or blocks, or groups) that validate.
        test_fraction: Share of the images (or blocks, or groups) that are kept for `test`.
        block_length: Frames in a block.
        guard: Of `blocks`: training frames dropped on either side of a held-out block, and of every training frame that
            repeats a held-out one (clips come again in compilations); 0 drops none.
        group_by: Of `groups`, which are held out whole: `folder` (that in the class folder which holds the file),
            `duplicates` (pictures that look alike), a CSV file with path,group or FILE.csv:COLUMN, or a regular
            expression whose first group, or all that it finds in a path, is the name.
        fold: Of `random`, `blocks` and `groups`: 2/5 keeps the second of five equal shares for `test` in place of
            `test_fraction`, so that five runs test on everything.
        subset: At most so many images a class, in the split's proportions.
        augment: `trivial` (crop, TrivialAugmentWide, flip), `light` (crop and flip), `article` (its own) or `none`.
        batch_size: Images in one optimizer step's batch, over all devices together.
        num_workers: Loader processes; left out, up to 8: one a core for a GPU, one for four cores where the processor
            does both, since they take from the model what they do for it.
        cache: Where pictures are kept that were decoded for training: `disk` (in `cache_dir`; only new and changed
            ones are decoded the next time), `memory`, or `none`, which decodes them in every epoch.
        on_error: Whether files that are no readable pictures end the command before it starts (`raise`) or are left
            out before the split (`skip`). Every picture is opened once for this; what was seen is kept in `cache_dir`.
        cache_dir: Where downloads, drawn frames and decoded pictures are kept; left out, the platform's cache folder.
        seed: Of split and subset.

    Raises:
        ValueError: A number out of its range.
    """

    def __init__(
        self,
        *,
        source: Source = "folder",
        root: str | None = None,
        image_size: int | tuple[int, int] = 224,
        split: str | None = None,
        val_fraction: float = 0.1,
        test_fraction: float = 0.0,
        block_length: int = 120,
        guard: int = 10,
        group_by: str | None = None,
        fold: str | None = None,
        subset: int | None = None,
        augment: Augment = "trivial",
        batch_size: int = 32,
        num_workers: int | None = None,
        cache: Cache = "disk",
        on_error: Literal["raise", "skip"] = "raise",
        cache_dir: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, fraction in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
            if not 0.0 <= fraction < 1.0:
                raise ValueError(f"data.{name} is {fraction}; a share lies in [0, 1)")
        if val_fraction + test_fraction >= 1.0:
            raise ValueError(
                f"data.val_fraction {val_fraction} and data.test_fraction {test_fraction} leave nothing to train on"
            )
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("block_length", block_length, 1),
            ("guard", guard, 0),
            ("subset", subset, 1),
            ("num_workers", num_workers, 0),
        ):
            if value is not None and value < least:
                raise ValueError(f"data.{name} is {value}; it has to be at least {least}")
        if (group_by is not None) != (split == "groups") and not str(split).endswith(".csv"):
            raise ValueError(
                f"data.split is {split or 'left out'} and data.group_by {group_by or 'left out'}; split groups goes "
                "with a group_by: folder, duplicates, FILE.csv or a regular expression"
            )
        self.save_hyperparameters()
        self.source: Source = "folder" if root is not None else source
        self.image_size = (image_size, image_size) if isinstance(image_size, int) else (image_size[0], image_size[1])
        self.split = split
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.block_length = block_length
        self.guard = guard
        self.group_by = group_by
        self.fold = Fold.parse(fold) if fold is not None else None
        self.subset = subset
        self.augment: Augment = augment
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.cache: Cache = cache
        self.on_error = on_error
        self.cache_dir = Path(cache_dir or platformdirs.user_cache_dir("vit_lightning")).expanduser()
        self.seed = seed
        self.root: Path | None = Path(root).expanduser() if root is not None else None
        self.class_names: list[str] = []
        self.samples: list[Sample] = []
        #: The decoded images of the parts that are looked at in every epoch.
        self.frames: dict[str, Frames] = {}
        #: Of all listed images, readable or not, so that runs on one folder compare whatever their `on_error`.
        self.data_id = ""
        #: Files left out because they are no readable pictures, by path relative to the root, with the reason.
        self.unreadable: dict[str, str] = {}
        #: Files that `predict` labels; left empty, it labels the held-out images.
        self.predict_paths: list[Path] = []
        self.first_epoch = 0

    def prepare_data(self) -> None:
        """Downloads or draws what is not there yet, and opens every picture that was not opened before.

        Raises:
            FileNotFoundError: The root, or a file of the split, is missing.
            ValueError: No root for a folder, or images that do not allow the split.
        """
        if self.samples or self.predict_paths:
            return  # they are there; to label pictures, a checkpoint is enough
        root = self.locate()
        _, samples = self.candidates(root, find_layout(root))
        scan_pictures(root, [sample.path for sample in samples], self.cache_dir)  # `setup` has it from the memory

    def locate(self) -> Path:
        """The data's root, downloaded or drawn where it has to be."""
        if self.root is not None:
            return self.root
        if self.source == "folder":
            raise ValueError("data.source is folder, but no folder is given: add --data.root PATH")
        if self.source == "kaggle":
            return kaggle.download(self.cache_dir)
        draw_demo_once(self.demo_root)
        return self.demo_root

    @property
    def demo_root(self) -> Path:
        """Where the drawn frames lie."""
        return self.cache_dir / f"demo-{demo.VERSION}"

    def setup(self, stage: str) -> None:
        """Does what `arrange` does and, to fit, decodes the images that are looked at in every epoch.

        Raises:
            FileNotFoundError: The root, or a file of the split, is missing.
            ValueError: As in `arrange`; or the decoded images cannot be kept.
        """
        self.arrange(stage)
        if stage == "fit" and not self.frames:
            quick = self.trainer is not None and bool(getattr(self.trainer, "fast_dev_run", False))
            for part in ("train", "val"):
                if self.part(part):
                    self.frames[part] = self.find_frames(part, "none" if quick else self.cache)

    def arrange(self, stage: str) -> None:
        """Lists the images, leaves out what cannot be read, and splits the rest.

        Raises:
            FileNotFoundError: The root, or a file of the split, is missing.
            ValueError: Unreadable files, unless `on_error` skips them; or images that do not allow the split or, to
                fit, training.
        """
        if self.samples or (stage == "predict" and self.predict_paths):
            return
        self.root = self.locate()
        layout = find_layout(self.root)
        self.class_names = layout.classes
        listed, samples = self.candidates(self.root, layout)
        self.data_id = digest(f"{sample.path}\t{sample.label}" for sample in listed)
        self.split = self.checked_split(self.root, layout)
        if stage != "predict" or self.on_error == "skip":  # `predict` says itself what it cannot read, and goes on
            samples = self.readable(samples, self.root)
        samples = self.divide(samples)
        if stage == "fit":
            self.check_parts(samples)
        self.samples = samples

    def checked_split(self, root: Path, layout: Layout) -> str:
        """The kind of split, settled where it was left out, if the root has the folders for it."""
        split = self.split
        if split is None:
            split = "folders" if layout.ready_made else "random"
        elif split not in ("random", "blocks", "groups", "folders"):
            if not split.endswith(".csv"):
                raise ValueError(f"data.split is {split!r}; choose random, blocks, groups, folders or a .csv file")
        elif layout.ready_made != (split == "folders"):
            has = "ready-made train / val / test folders" if layout.ready_made else "no train folder"
            instead = "--data.split folders" if layout.ready_made else "--data.split random, blocks or groups"
            raise ValueError(f"data.split is {split}, but {root} has {has}; use {instead}")
        if self.fold is not None and split == "folders":
            raise ValueError("data.fold shares the images out, but split folders has its parts; leave fold out")
        return split

    def candidates(self, root: Path, layout: Layout) -> tuple[list[Sample], list[Sample]]:
        """All images that are listed, and those that may be used: the same, or those of the split's file."""
        split = self.checked_split(root, layout)
        listed = find_samples(root, layout)
        if split.endswith(".csv"):
            return listed, read_split(Path(split).expanduser(), root=root, classes=layout.classes)
        return listed, listed

    def readable(self, samples: list[Sample], root: Path) -> list[Sample]:
        """The samples without the files that are no readable pictures."""
        scan = scan_pictures(root, [sample.path for sample in samples], self.cache_dir)
        if scan.misnamed:
            share = f"{len(scan.misnamed):,} of {len(samples):,} images"
            path, content = next(iter(scan.misnamed.items()))
            log.info("read by content, not by name: %s, such as %s (%s)", share, path, content)
        if not scan.unreadable:
            return samples
        words = f"{len(scan.unreadable):,} of {len(samples):,} images in {root} cannot be read"
        if self.on_error == "raise":
            table = memory_file(self.cache_dir, root).with_suffix(".unreadable.csv")
            try:
                write_unreadable(table, scan.unreadable)
                listed = f"; all are listed in {table}"
            except OSError:  # the cache folder may be read-only
                listed = ""
            raise ValueError(
                f"{words}: {first_few(scan.unreadable)}{listed}; mend them, take them away, or leave them out with "
                "--data.on_error skip"
            )
        log.warning("%s and are left out: %s", words, first_few(scan.unreadable))
        self.unreadable = scan.unreadable
        return [sample for sample in samples if sample.path not in scan.unreadable]

    def divide(self, samples: list[Sample]) -> list[Sample]:
        """Gives every sample its part by the chosen split, then takes the subset."""
        fractions = {"val_fraction": self.val_fraction, "test_fraction": self.test_fraction}
        if self.split == "folders":
            samples = split_folders(samples, val_fraction=self.val_fraction, seed=self.seed)
        elif self.split == "random":
            samples = split_random(samples, **fractions, seed=self.seed, fold=self.fold)
        elif self.split == "blocks":
            samples = split_blocks(
                samples,
                **fractions,
                block_length=self.block_length,
                guard=self.guard,
                seed=self.seed,
                fold=self.fold,
            )
            if self.guard > 0:
                samples = self.without_repeats(samples)
        elif self.split == "groups":
            samples = hold_out(
                self.grouped(samples),
                **fractions,
                seed=self.seed,
                fold=self.fold,
                what=f"groups by {self.group_by}",
                instead="choose another data.group_by",
            )
        if self.subset is not None:
            samples = take_subset(samples, per_class=self.subset, seed=self.seed)
        return samples

    def grouped(self, samples: list[Sample]) -> list[Sample]:
        """The samples with the groups of `group_by`."""
        assert self.group_by is not None, "checked by the constructor"
        if self.group_by != "duplicates":
            return group_samples(samples, self.group_by)
        groups = duplicate_groups(self.thumbnails(samples))
        return [replace(sample, group=str(group)) for sample, group in zip(samples, groups, strict=True)]

    def without_repeats(self, samples: list[Sample]) -> list[Sample]:
        """The samples without training frames that repeat a held-out one, and without `guard` frames around those."""
        train = [sample for sample in samples if sample.split == "train"]
        held = [sample for sample in samples if sample.split != "train"]
        if not held:
            return samples
        pairs = distances(self.thumbnails(train), self.thumbnails(held), "looking for repeated frames")
        repeats = np.concatenate([near.any(axis=1) for _, _, near in pairs])
        if not repeats.any():
            return samples
        names = [sample.path for sample, repeat in zip(train, repeats, strict=True) if repeat]
        kept = drop_repeats(samples, names, guard=self.guard)
        log.info(
            "%d training frames repeat a held-out one, such as %s: with those around them, %d do not train",
            len(names),
            names[0],
            len(samples) - len(kept),
        )
        return kept

    def thumbnails(self, samples: Sequence[Sample]) -> Thumbnails:
        """The samples' thumbnails, (N, 16, 16, 3)."""
        assert self.root is not None, "`arrange` comes first"
        paths = [sample.path for sample in samples]
        try:
            return read_thumbnails(self.root, paths, cache=self.cache, cache_dir=self.cache_dir)
        except ValueError:  # they are small enough to do without a folder for them
            return read_thumbnails(self.root, paths, cache="memory", cache_dir=self.cache_dir)

    def check_parts(self, samples: list[Sample]) -> None:
        """Refuses a split that does not allow training, and warns of scores that leave a class out."""
        counts = count_table(samples)
        where = f"the split {self.split} of {self.root}"
        for part in ("train", "val"):
            if part not in counts and not (part == "val" and self.val_fraction == 0):
                raise ValueError(f"{where} leaves no image for {part}")
        missing = {part: [name for name in self.class_names if name not in counts[part]] for part in counts}
        if missing["train"]:
            raise ValueError(
                f"{where} leaves no image to train on for the class{'es' * (len(missing['train']) > 1)} "
                f"{', '.join(missing['train'])}; choose another split, or take the folder away"
            )
        lacking = [f"{part} without {', '.join(names)}" for part, names in missing.items() if names]
        if lacking:
            log.warning("%s leaves %s: scores there say nothing about these", where, " and ".join(lacking))

    @property
    def split_id(self) -> str:
        """Twelve hexadecimal digits that two equal splits share."""
        return digest(f"{sample.path}\t{sample.label}\t{sample.split}" for sample in self.samples)

    def part(self, *names: str) -> list[Sample]:
        """The samples of the first of these parts that has any."""
        for name in names:
            samples = [sample for sample in self.samples if sample.split == name]
            if samples:
                return samples
        return []

    def training_counts(self) -> list[int]:
        """Training images of each class, in the order of the model's outputs."""
        counts = count_table(self.samples)["train"]
        return [counts[name] for name in self.class_names]

    @property
    def test_part(self) -> str:
        """The part that `test` scores: `val` where the split has no test part, as the article's has none."""
        return "test" if self.part("test") else "val"

    def train_dataloader(self) -> DataLoader[tuple[Tensor, int]]:
        """Shuffled, augmented batches."""
        return self.loader(self.labelled("train", train_transform(self.image_size, self.augment)), shuffle=True)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, int]] | list[DataLoader[tuple[Tensor, int]]]:
        """Every validation image once; no loader where the split has no validation part."""
        if not self.part("val"):
            return []
        return self.loader(self.labelled("val"))

    def test_dataloader(self) -> DataLoader[tuple[Tensor, int]]:
        """Every image of `test_part` once."""
        return self.loader(self.labelled(self.test_part))

    def predict_dataloader(self) -> DataLoader[tuple[Tensor, str, str]]:
        """Every image of `predict_paths` once, or of the held-out part."""
        paths = self.predict_paths
        if not paths and self.root is not None:
            paths = [self.root / sample.path for sample in self.part("test", "val")]
        return self.loader(UnlabelledImages(paths, frame_size(self.image_size)))

    def find_frames(self, part: str, cache: Cache) -> Frames:
        """The images of one part at the size that what is done with them needs."""
        assert self.root is not None, "setup comes first"
        size = frame_size(self.image_size, self.augment if part == "train" else "none")
        paths = [sample.path for sample in self.part(part)]
        return find_frames(self.root, paths, size, cache=cache, cache_dir=self.cache_dir)

    def labelled(self, part: str, transform: v2.Transform | None = None) -> LabelledImages:
        """The images of one part with their labels."""
        index = {name: number for number, name in enumerate(self.class_names)}
        labels = [index[sample.label] for sample in self.part(part)]
        frames = self.frames.get(part) or self.find_frames(part, "none")
        return LabelledImages(frames, labels, transform, global_seed())

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:  # noqa: ANN401, ARG002  # Lightning's signature
        """Bytes become numbers on the model's own device."""
        if isinstance(batch, Tensor):  # the example input of Lightning's summary, which are numbers
            return batch
        images = normalise(batch[0])
        if self.trainer is not None:  # to bf16 in a model that is of bf16
            images = self.trainer.precision_plugin.convert_input(images)
        return [images, *batch[1:]]

    def state_dict(self) -> dict[str, int]:
        """What a checkpoint keeps: the epoch to go on with."""
        return {"epoch": self.trainer.current_epoch + 1 if self.trainer else 0}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Goes on with that epoch's order."""
        self.first_epoch = state_dict["epoch"]

    def device_batch_size(self, devices: int) -> int:
        """What a device takes of `batch_size`.

        Raises:
            ValueError: It cannot be shared out evenly, or a held-out part has fewer images than there are devices.
        """
        if self.batch_size % devices:
            raise ValueError(
                f"data.batch_size {self.batch_size} cannot be shared out evenly over {devices} devices; choose a "
                f"multiple of {devices}"
            )
        for part in PARTS:
            if 0 < len(self.part(part)) < devices:  # a device without a batch would keep the others waiting for ever
                raise ValueError(
                    f"{part} has {len(self.part(part))} images, fewer than the {devices} devices; use fewer"
                )
        return self.batch_size // devices

    def loader(
        self,
        dataset: Dataset[Item],
        *,
        shuffle: bool = False,
    ) -> DataLoader[Item]:
        """A loader whose batches are this device's share of `batch_size`; held-out images come once over all devices.

        Lightning's own sampler repeats some, so that every device has the same number: a score would count them twice.
        """
        devices = self.trainer.world_size if self.trainer else 1
        batch_size = self.device_batch_size(devices)
        rank = self.trainer.global_rank if self.trainer else 0
        sampler: DistributedSampler[Any] | None = None
        if shuffle:
            sampler = EpochSampler(dataset, num_replicas=devices, rank=rank, shuffle=True, seed=global_seed())
            sampler.set_epoch(self.first_epoch)  # Lightning does, too late for the first epoch of a resumed run
        elif devices > 1:
            sampler = UnrepeatedDistributedSampler(dataset, num_replicas=devices, rank=rank, shuffle=False)
        workers = self.num_workers
        if workers is None:
            own_processor = torch.cuda.is_available() or torch.backends.mps.is_available()
            workers = min(8, available_cores() // (1 if own_processor else 4))
            if len(dataset) <= 2 * self.batch_size:  # type: ignore[arg-type]  # ours have a length
                workers = 0  # starting processes costs more than reading a few pictures
        return DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=workers,
            worker_init_fn=start_worker,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def describe(self) -> str:
        """One line: how many images of how many classes, and how they are split."""
        counts = {part: sum(counter.values()) for part, counter in count_table(self.samples).items()}
        parts = ", ".join(f"{part} {counts[part]:,}" for part in PARTS if part in counts)
        left_out = f"; {len(self.unreadable):,} unreadable files left out" if self.unreadable else ""
        return f"{len(self.samples):,} images, {len(self.class_names)} classes, split {self.split}: {parts}{left_out}"


def start_worker(worker: int) -> None:
    """Seeds a loader process as Lightning would, and leaves Ctrl-C, which reaches all processes, to the main one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pl_worker_init_function(worker)


def draw_demo_once(root: Path) -> None:
    """Draws the demo frames where they are missing; a drawing that was broken off leaves nothing behind."""
    if root.is_dir():
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(root.with_suffix(".lock")):  # of several nodes on one disk, one draws
        if root.is_dir():
            return
        with tempfile.TemporaryDirectory(dir=root.parent, prefix="drawing-") as folder:
            drawn = Path(folder) / "demo"
            with track(f"drawing the demo frames into {root}", total=demo.CLIPS) as advance:
                demo.draw_demo(drawn, advance=advance)
            drawn.rename(root)


def digest(lines: Iterable[str]) -> str:
    """Twelve hexadecimal digits of the lines' SHA-256."""
    text = "\n".join(lines)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def global_seed() -> int:
    """The run's seed, which Lightning's `seed_everything` keeps in the environment; 0 without one."""
    return int(os.environ.get("PL_GLOBAL_SEED", "0"))


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
