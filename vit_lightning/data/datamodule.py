"""The LightningDataModule: one source of images, one split, loaders for every stage."""

import hashlib
import logging
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import platformdirs
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from vit_lightning.data import demo, kaggle
from vit_lightning.data.index import Sample, find_layout, find_samples
from vit_lightning.data.splits import (
    PARTS,
    count_table,
    read_split,
    split_blocks,
    split_folders,
    split_random,
    take_subset,
)
from vit_lightning.data.transforms import Augment, eval_transform, load_image, train_transform
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
    """Images (3, H, W) with their class indices."""

    def __init__(self, samples: Sequence[Sample], root: Path, class_names: list[str], transform: v2.Transform) -> None:
        self.paths = [str(root / sample.path) for sample in samples]
        self.labels = [class_names.index(sample.label) for sample in samples]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(load_image(self.paths[index])), self.labels[index]


class UnlabelledImages(Dataset[tuple[Tensor, str]]):
    """Images (3, H, W) with their paths."""

    def __init__(self, paths: Sequence[Path], transform: v2.Transform) -> None:
        self.paths = [str(path) for path in paths]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        return self.transform(load_image(self.paths[index])), self.paths[index]


class ImageDataModule(LightningDataModule):
    """Images of a folder, of Kaggle's Tom & Jerry set or of the drawn demo, split and augmented.

    Args:
        source: `kaggle` downloads the Tom & Jerry frames, `demo` draws cartoon frames, `folder` takes `root`.
        root: Folder of class folders, Kaggle's nested layout, or train / val / test folders; makes the source a
            folder.
        image_size: Side in pixels, or (height, width); on the command line it is the model's.
        split: `random`, `blocks` (runs of frame numbers held out whole), `folders` (ready-made), or a CSV file with
            path,label,split. Left out: `folders` where the root has them, else `random`.
        val_fraction: Share of the images (or blocks) that validate.
        test_fraction: Share of the images (or blocks) that are kept for `test`.
        block_length: Frames in a block.
        guard: Training frames dropped on either side of a held-out block.
        subset: At most so many images a class, in the split's proportions.
        augment: `trivial` (crop, TrivialAugmentWide, flip), `light` (crop and flip), `article` (its own) or `none`.
        batch_size: Images in one optimizer step's batch, over all devices together.
        num_workers: Loader processes; left out, one a core up to 8.
        cache_dir: Where downloads and drawn frames are kept; left out, the platform's cache folder.
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
        subset: int | None = None,
        augment: Augment = "trivial",
        batch_size: int = 32,
        num_workers: int | None = None,
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
        self.save_hyperparameters()
        self.source: Source = "folder" if root is not None else source
        self.image_size = (image_size, image_size) if isinstance(image_size, int) else (image_size[0], image_size[1])
        self.split = split
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.block_length = block_length
        self.guard = guard
        self.subset = subset
        self.augment: Augment = augment
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.cache_dir = Path(cache_dir or platformdirs.user_cache_dir("vit_lightning")).expanduser()
        self.seed = seed
        self.root: Path | None = Path(root).expanduser() if root is not None else None
        self.class_names: list[str] = []
        self.samples: list[Sample] = []
        self.data_id = ""
        #: Files that `predict` labels; left empty, it labels the held-out images.
        self.predict_paths: list[Path] = []

    def prepare_data(self) -> None:
        """Downloads or draws what is not there yet."""
        if self.predict_paths:
            return  # a checkpoint is enough to label pictures
        if self.source == "kaggle":
            kaggle.download(self.cache_dir)
        elif self.source == "demo":
            draw_demo_once(self.demo_root)

    @property
    def demo_root(self) -> Path:
        """Where the drawn frames lie."""
        return self.cache_dir / f"demo-{demo.VERSION}"

    def setup(self, stage: str) -> None:
        """Lists the images and splits them.

        Raises:
            FileNotFoundError: The root, or a file of the split, is missing.
            ValueError: The images do not allow the split.
        """
        if self.samples or (stage == "predict" and self.predict_paths):
            return
        if self.root is None:
            if self.source == "folder":
                raise ValueError("data.source is folder, but no folder is given: add --data.root PATH")
            self.root = self.demo_root if self.source == "demo" else kaggle.download(self.cache_dir)
        layout = find_layout(self.root)
        self.class_names = layout.classes
        samples = find_samples(self.root, layout)
        self.data_id = digest(f"{sample.path}\t{sample.label}" for sample in samples)
        if self.split is None:
            self.split = "folders" if layout.ready_made else "random"
        samples = self.divide(samples, self.root, ready_made=layout.ready_made)
        counts = count_table(samples)
        for part in ("train", "val"):
            if part not in counts and not (part == "val" and self.val_fraction == 0):
                raise ValueError(f"the split {self.split} of {self.root} leaves no image for {part}")
        self.samples = samples

    def divide(self, samples: list[Sample], root: Path, *, ready_made: bool) -> list[Sample]:
        """Gives every sample its part by the chosen split, then takes the subset."""
        split = self.split
        if split not in ("random", "blocks", "folders"):
            if not str(split).endswith(".csv"):
                raise ValueError(f"data.split is {split!r}; choose random, blocks, folders or a .csv file")
            samples = read_split(Path(str(split)).expanduser(), root=root, classes=self.class_names)
        elif ready_made != (split == "folders"):
            has = "ready-made train / val / test folders" if ready_made else "no train folder"
            instead = "--data.split folders" if ready_made else "--data.split random or blocks"
            raise ValueError(f"data.split is {split}, but {root} has {has}; use {instead}")
        elif split == "folders":
            samples = split_folders(samples, val_fraction=self.val_fraction, seed=self.seed)
        elif split == "random":
            samples = split_random(
                samples, val_fraction=self.val_fraction, test_fraction=self.test_fraction, seed=self.seed
            )
        else:
            samples = split_blocks(
                samples,
                val_fraction=self.val_fraction,
                test_fraction=self.test_fraction,
                block_length=self.block_length,
                guard=self.guard,
                seed=self.seed,
            )
        if self.subset is not None:
            samples = take_subset(samples, per_class=self.subset, seed=self.seed)
        return samples

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
        return self.loader(self.labelled("val", eval_transform(self.image_size)))

    def test_dataloader(self) -> DataLoader[tuple[Tensor, int]]:
        """Every image of `test_part` once."""
        return self.loader(self.labelled(self.test_part, eval_transform(self.image_size)))

    def predict_dataloader(self) -> DataLoader[tuple[Tensor, str]]:
        """Every image of `predict_paths` once, or of the held-out part."""
        paths = self.predict_paths
        if not paths and self.root is not None:
            paths = [self.root / sample.path for sample in self.part("test", "val")]
        return self.loader(UnlabelledImages(paths, eval_transform(self.image_size)))

    def labelled(self, part: str, transform: v2.Transform) -> LabelledImages:
        """The images of one part."""
        assert self.root is not None, "setup comes first"
        return LabelledImages(self.part(part), self.root, self.class_names, transform)

    def loader(self, dataset: Dataset[Item], *, shuffle: bool = False) -> DataLoader[Item]:
        """A loader whose batches are this device's share of `batch_size`."""
        devices = self.trainer.world_size if self.trainer else 1
        if self.batch_size % devices:
            raise ValueError(
                f"data.batch_size {self.batch_size} cannot be shared out evenly over {devices} devices; choose a "
                f"multiple of {devices}"
            )
        workers = self.num_workers
        if workers is None:  # starting processes costs more than reading a few pictures
            workers = 0 if len(dataset) <= 2 * self.batch_size else min(8, available_cores())  # type: ignore[arg-type]
        return DataLoader(
            dataset,
            batch_size=self.batch_size // devices,
            shuffle=shuffle,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def describe(self) -> str:
        """One line: how many images of how many classes, and how they are split."""
        counts = {part: sum(counter.values()) for part, counter in count_table(self.samples).items()}
        parts = ", ".join(f"{part} {counts[part]:,}" for part in PARTS if part in counts)
        return f"{len(self.samples):,} images, {len(self.class_names)} classes, split {self.split}: {parts}"


def draw_demo_once(root: Path) -> None:
    """Draws the demo frames where they are missing; a drawing that was broken off leaves nothing behind."""
    if root.is_dir():
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent, prefix="drawing-") as folder:
        drawn = Path(folder) / "demo"
        with track(f"drawing the demo frames into {root}", total=demo.CLIPS) as advance:
            demo.draw_demo(drawn, advance=advance)
        drawn.rename(root)


def digest(lines: Iterable[str]) -> str:
    """Twelve hexadecimal digits of the lines' SHA-256."""
    text = "\n".join(lines)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
