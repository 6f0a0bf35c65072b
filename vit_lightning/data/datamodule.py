"""The LightningDataModule: one source of images, one split, loaders for every stage."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import platformdirs
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from vit_lightning.arguments import both_sides, check_choice, check_number, check_words
from vit_lightning.data.frames import Cache, Frames, find_frames
from vit_lightning.data.loading import (
    Item,
    LabelledImages,
    UnlabelledImages,
    build_loader,
    default_workers,
    global_seed,
    progress,
)
from vit_lightning.data.scan import scan_pictures
from vit_lightning.data.sources import Source, locate
from vit_lightning.data.splits import Fold
from vit_lightning.data.splitting import Split, SplitSettings, check_parts, list_images, make_split
from vit_lightning.data.transforms import Augment, frame_size, normalise, train_transform
from vit_lightning.data.video import PicturesAndFrames, is_video
from vit_lightning.files import expanded


class ImageDataModule(LightningDataModule):
    """Images of a folder, of Kaggle's Tom & Jerry set or of the drawn demo, split and augmented.

    Args:
        source: `kaggle` downloads the Tom & Jerry frames, `demo` draws cartoon frames, `folder` takes `root`.
        root: Folder of class folders, Kaggle's nested layout, or train / val / test folders; makes the source a
            folder.
        image_size: Side in pixels, or (height, width); on the command line it is the model's.
        in_channels: 3 for colour, 1 for grey; on the command line it is the model's.
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
        labels: CSV file with path,label, which take the place of the class folders' labels and need no such folders;
            new ones become classes. They move no image to another part.
        keep_parts: The split.csv of an earlier run: its images, and new ones of their groups, keep their parts.
        subset: At most so many images a class, in the split's proportions.
        augment: `trivial` (crop, TrivialAugmentWide, flip), `strong` (crops down to half of the area,
            TrivialAugmentWide twice, flip), `light` (crop and flip), `article` (its own) or `none`.
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

    #: What `predict` labels, pictures and videos, with the seconds between a video's frames; left empty, it labels the
    #: held-out images.
    predict_paths: Sequence[Path | str] = ()
    every = 1.0
    file_of: Callable[[Path | str], Path] = Path

    first_epoch, first_batch = 0, 0  # with which training begins
    _used_split: Split | None = None

    def __init__(
        self,
        *,
        source: Source = "folder",
        root: str | None = None,
        image_size: int | tuple[int, int] = 224,
        in_channels: int = 3,
        split: str | None = None,
        val_fraction: float = 0.1,
        test_fraction: float = 0.0,
        block_length: int = 120,
        guard: int = 10,
        group_by: str | None = None,
        fold: str | None = None,
        labels: str | None = None,
        keep_parts: str | None = None,
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
        check_number("data.batch_size", batch_size, least=1, most=2**24, whole=True)
        check_number("data.num_workers", num_workers, least=0, most=256, whole=True, optional=True)
        for name, choice, known in (("source", source, Source), ("augment", augment, Augment)):
            check_choice(f"data.{name}", choice, get_args(known))
        if in_channels not in (1, 3):
            raise ValueError(f"in_channels is {in_channels}; pictures are given as 3 (colour) or 1 (grey)")
        self.save_hyperparameters()
        words = ("root", "split", "group_by", "fold", "labels", "keep_parts", "cache_dir")
        check_words(**{name: self.hparams[name] for name in words})
        self.source: Source = "folder" if root is not None else source
        self.root = expanded(root) if root is not None else None
        self.image_size = both_sides("data.image_size", image_size)
        self.in_channels = in_channels
        #: What decides the split; who wants it otherwise, as a run that goes on does, puts other ones here in time.
        self.settings = SplitSettings(
            split=split,
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            block_length=block_length,
            guard=guard,
            group_by=group_by,
            fold=Fold.parse(fold) if fold is not None else None,
            labels=labels,
            keep_parts=keep_parts,
            subset=subset,
            on_error=on_error,
            cache=cache,
            cache_dir=expanded(cache_dir or platformdirs.user_cache_dir("vit_lightning")),
            seed=seed,
        )
        self.augment: Augment = augment
        self.batch_size, self.num_workers = batch_size, num_workers
        #: The decoded images of the parts that are looked at in every epoch.
        self.frames: dict[str, Frames] = {}

    @property
    def used_split(self) -> Split:
        """Who trains, who validates, who tests; there is one after `setup` or `arrange`."""
        assert self._used_split is not None, "`arrange` comes first"
        return self._used_split

    @used_split.setter
    def used_split(self, split: Split) -> None:
        """Takes a split that was made elsewhere in the place of `arrange`'s."""
        self._used_split = split

    # Three steps, since Lightning does the first in one process of a node and the second in all of them, and since a
    # command wants to refuse a mistaken split before it makes a run's folder, which minutes of decoding come after:
    # `prepare_data` leaves files, `arrange` sets the split, `setup` is `arrange` and decodes.

    def prepare_data(self) -> None:
        """Downloads or draws what is not there yet, and opens every picture that was not opened before.

        Raises:
            FileNotFoundError: The root, or a file of the split, is missing.
            ValueError: No root for a folder, or images that do not allow the split.
        """
        if self._used_split is not None or self.predict_paths:
            return  # they are there; to label pictures, a checkpoint is enough
        root = self.locate()
        samples = list_images(root, self.settings).samples
        # Nothing of it is kept here, where the other processes do not see it: they find it in the cache folder.
        scan_pictures(root, [sample.path for sample in samples], self.settings.cache_dir)

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
                if self.used_split.part(part):
                    self.frames[part] = self.find_frames(part, "none" if quick else self.settings.cache)

    def arrange(self, stage: str) -> None:
        """Makes the split, once: Lightning sets up for every stage, and the files may have changed since.

        Raises:
            FileNotFoundError: The root, or a file of the split, is missing.
            ValueError: Unreadable files, unless `on_error` skips them; or images that do not allow the split or, to
                fit, training.
        """
        if self._used_split is not None or (stage == "predict" and self.predict_paths):
            return
        # `predict` says itself what it cannot read, and goes on.
        scan = stage != "predict" or self.settings.on_error == "skip"
        split = make_split(self.locate(), self.settings, scan=scan)
        if stage == "fit":  # to score or to predict, the split may be any
            check_parts(split)
        self._used_split = split

    def locate(self) -> Path:
        """The data's root, downloaded or drawn where it has to be."""
        return locate(self.source, self.root, self.settings.cache_dir)

    def train_dataloader(self) -> DataLoader[tuple[Tensor, int]]:
        """Shuffled, augmented batches."""
        transform = train_transform(self.image_size, self.augment)
        return self.loader(self.labelled("train", transform), shuffle_from=(self.first_epoch, self.first_batch))

    def val_dataloader(self) -> DataLoader[tuple[Tensor, int]] | list[DataLoader[tuple[Tensor, int]]]:
        """Every validation image once; no loader where the split has no validation part."""
        if not self.used_split.part("val"):
            return []
        return self.loader(self.labelled("val"))

    def test_dataloader(self) -> DataLoader[tuple[Tensor, int]]:
        """Every image of the split's `test_part` once."""
        return self.loader(self.labelled(self.used_split.test_part))

    def predict_dataloader(self) -> DataLoader[Any]:
        """Every image of `predict_paths` once, and the frames of its videos; or the held-out part."""
        paths = self.predict_paths
        if not paths:
            split = self.used_split
            paths = [split.root / sample.path for sample in split.part("test", "val")]
        pictures = UnlabelledImages(paths, frame_size(self.image_size), self.file_of)
        if any(map(is_video, paths)):  # in this process: a film's frames come one after another
            return DataLoader(PicturesAndFrames(pictures, self.every), batch_size=self.batch_size)
        return self.loader(pictures)

    def find_frames(self, part: str, cache: Cache) -> Frames:
        """The images of one part at the size that what is done with them needs."""
        split = self.used_split
        size = frame_size(self.image_size, self.augment if part == "train" else "none")
        paths = [sample.path for sample in split.part(part)]
        return find_frames(split.root, paths, size, cache=cache, cache_dir=self.settings.cache_dir)

    def labelled(self, part: str, transform: v2.Transform | None = None) -> LabelledImages:
        """The images of one part with their labels."""
        frames = self.frames.get(part) or self.find_frames(part, "none")
        return LabelledImages(frames, self.used_split.labels(part), transform, global_seed())

    def training_counts(self) -> list[int]:
        """Training images of each class, in the order of the model's outputs."""
        counts = self.used_split.counts()["train"]
        return [counts[name] for name in self.used_split.class_names]

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:  # noqa: ANN401, ARG002  # Lightning's signature
        """Bytes become numbers on the model's own device: a quarter of the memory is moved there."""
        if isinstance(batch, Tensor):  # the example input of Lightning's summary, which are numbers
            return batch
        images = normalise(batch[0], self.in_channels)
        if self.trainer is not None:  # to bf16 in a model that is of bf16
            images = self.trainer.precision_plugin.convert_input(images)
        return [images, *batch[1:]]

    def state_dict(self) -> dict[str, int]:
        """What a checkpoint keeps: the epoch to go on with, and how many of its batches are done."""
        epoch, batches = progress(self.trainer) if self.trainer else (0, 0)
        return {"epoch": epoch, "batches": batches}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Goes on with that epoch's order, from that batch on."""
        self.first_epoch, self.first_batch = state_dict["epoch"], state_dict.get("batches", 0)

    def device_batch_size(self, devices: int) -> int:
        """What a device takes of `batch_size`: a config gives the same steps on however many devices.

        Raises:
            ValueError: It cannot be shared out evenly, or a held-out part has fewer images than there are devices.
        """
        if self.batch_size % devices:
            raise ValueError(
                f"data.batch_size {self.batch_size} cannot be shared out evenly over {devices} devices; choose a "
                f"multiple of {devices}"
            )
        sizes = self._used_split.sizes() if self._used_split is not None else {}  # files to predict have no parts
        for part, images in sizes.items():
            if images < devices:  # a device without a batch would keep the others waiting for ever
                raise ValueError(f"{part} has {images} images, fewer than the {devices} devices; use fewer")
        return self.batch_size // devices

    def loader(self, dataset: Dataset[Item], *, shuffle_from: tuple[int, int] | None = None) -> DataLoader[Item]:
        """A loader of this device's share of a data set, in order or shuffled from an epoch and its batch on."""
        devices = self.trainer.world_size if self.trainer else 1
        batch_size = self.device_batch_size(devices)
        workers = self.num_workers
        if workers is None:
            workers = default_workers(len(dataset), self.batch_size)  # type: ignore[arg-type]  # ours have a length
        rank = self.trainer.global_rank if self.trainer else 0
        return build_loader(dataset, batch_size, workers=workers, devices=devices, rank=rank, shuffle_from=shuffle_from)
