"""From a folder of images to the frozen `Split`: lists them, leaves out what cannot be read, divides the rest."""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from vit_lightning.arguments import check_choice, check_number
from vit_lightning.data.frames import Cache
from vit_lightning.data.grouping import group_samples
from vit_lightning.data.index import Layout, Sample, find_layout, find_samples
from vit_lightning.data.labels import classes_of, describe_labels, labelled_samples, relabelled
from vit_lightning.data.near_duplicates import Thumbnails, distances, duplicate_groups, read_thumbnails
from vit_lightning.data.scan import first_few, memory_file, scan_pictures, write_unreadable
from vit_lightning.data.splits import (
    Fold,
    count_table,
    drop_repeats,
    hold_out,
    read_kept,
    read_split,
    split_blocks,
    split_folders,
    split_random,
    take_subset,
)
from vit_lightning.files import expanded

log = logging.getLogger(__name__)

#: Frame numbers, and so all that is counted in them, have at most 18 digits.
MOST = 10**18


@dataclass(frozen=True, kw_only=True)
class SplitSettings:
    """Those arguments of `ImageDataModule` that say who trains, and where what was decoded is kept.

    Raises:
        ValueError: A number out of its range, or groups that go with another split.
    """

    split: str | None
    val_fraction: float
    test_fraction: float
    block_length: int
    guard: int
    group_by: str | None
    fold: Fold | None
    labels: str | None = None
    keep_parts: str | None = None
    subset: int | None
    on_error: Literal["raise", "skip"]
    cache: Cache
    cache_dir: Path
    seed: int

    def __post_init__(self) -> None:
        for name in ("val_fraction", "test_fraction"):
            fraction = getattr(self, name)
            check_number(f"data.{name}", fraction, least=0, below=1)
        if self.val_fraction + self.test_fraction >= 1.0:
            raise ValueError(
                f"data.val_fraction {self.val_fraction} and data.test_fraction {self.test_fraction} leave nothing to "
                "train on"
            )
        for name, least in (("block_length", 1), ("guard", 0), ("subset", 1), ("seed", 0)):
            optional = name == "subset"
            check_number(f"data.{name}", getattr(self, name), least=least, most=MOST, whole=True, optional=optional)
        check_choice("data.on_error", self.on_error, ("raise", "skip"))
        check_choice("data.cache", self.cache, get_args(Cache))
        if self.labels is not None and not self.labels.endswith(".csv"):
            raise ValueError(f"data.labels is {self.labels!r}; expected a .csv file with the columns path,label")
        if self.keep_parts is not None and (self.fold is not None or self.split == "folders"):
            what = "data.fold" if self.fold is not None else "data.split folders"
            raise ValueError(f"data.keep_parts says who is held out, and so does {what}; leave one of them out")
        if (self.group_by is not None) != (self.split == "groups") and not str(self.split).endswith(".csv"):
            raise ValueError(
                f"data.split is {self.split or 'left out'} and data.group_by {self.group_by or 'left out'}; split "
                "groups goes with a group_by: folder, duplicates, FILE.csv or a regular expression"
            )


@dataclass(frozen=True)
class Split:
    """The images of one folder, and which of them train, validate and test. `make_split` makes it.

    Args:
        settings: By which it was made.
        root: The folder; the samples' paths are relative to it.
        class_names: The K classes in the order of the model's outputs.
        samples: Every image that is used, with its part and group.
        kind: How it was made: `random`, `blocks`, `groups`, `folders`, or `csv` for a file of parts.
        data_id: Twelve hexadecimal digits of all listed images, readable or not, so that runs on one folder compare
            whatever their `on_error`.
        unreadable: Files left out because they are no readable pictures, with the reason.
    """

    settings: SplitSettings
    root: Path
    class_names: tuple[str, ...]
    samples: tuple[Sample, ...]
    kind: str
    data_id: str
    unreadable: dict[str, str]

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits that two equal splits share."""
        return digest(f"{sample.path}\t{sample.label}\t{sample.split}" for sample in self.samples)

    def bytes(self) -> int:
        """The size of all files that are used."""
        return sum((self.root / sample.path).stat().st_size for sample in self.samples)

    @property
    def family(self) -> str:
        """Twelve digits that the folds of one split share; the split's `id` where it is no fold."""
        fold = self.settings.fold
        if fold is None:
            return self.id
        apart = ("fold", "labels", "on_error", "cache", "cache_dir")  # labels are in the data's id
        told = [
            f"{field.name}\t{getattr(self.settings, field.name)}"
            for field in fields(self.settings)
            if field.name != "keep_parts"  # which folds have not
        ]
        return digest([self.data_id, str(fold.of), *(line for line in told if line.partition("\t")[0] not in apart)])

    @property
    def name(self) -> str:
        """What messages call it: its kind, or the file of parts."""
        return self.settings.split or self.kind

    def part(self, *names: str) -> list[Sample]:
        """The samples of the first of these parts that has any."""
        for name in names:
            samples = [sample for sample in self.samples if sample.split == name]
            if samples:
                return samples
        return []

    def labels(self, part: str) -> list[int]:
        """The class indices of a part's samples."""
        index = {name: number for number, name in enumerate(self.class_names)}
        return [index[sample.label] for sample in self.part(part)]

    @property
    def test_part(self) -> Literal["val", "test"]:
        """The part that `test` scores: `val` where there is no test part, as the article's split has none."""
        return "test" if self.part("test") else "val"

    def counts(self) -> dict[str, Counter[str]]:
        """Images a class in every part that has any: {"train": {"jerry": 903, ...}, ...}."""
        return count_table(self.samples)

    def sizes(self) -> dict[str, int]:
        """Images in every part that has any."""
        return {part: counter.total() for part, counter in self.counts().items()}

    def describe(self) -> str:
        """One line: how many images of how many classes, and how they are split."""
        parts = ", ".join(f"{part} {size:,}" for part, size in self.sizes().items())
        left_out = f"; {len(self.unreadable):,} unreadable files left out" if self.unreadable else ""
        return f"{len(self.samples):,} images, {len(self.class_names)} classes, split {self.name}: {parts}{left_out}"

    @property
    def group_words(self) -> str:
        """What the samples' groups are called, where they have any."""
        if self.kind == "blocks":
            return f"blocks of {self.settings.block_length} frames"
        return f"groups by {self.settings.group_by}" if self.settings.group_by else "groups"

    def made_as(self, kind: str) -> "Split":
        """The same split by the kind that a run's record gives it: the run's own split.csv does not say how it came."""
        samples = self.samples
        if kind == "blocks":  # those of older runs do not name the blocks either
            length = self.settings.block_length
            samples = tuple(replace(each, group=each.group or str((each.number or 0) // length)) for each in samples)
        return replace(self, kind=kind, samples=samples)

    def thumbnails(self, samples: Sequence[Sample]) -> Thumbnails:
        """The samples' thumbnails, (N, 16, 16, 3).

        Raises:
            OSError: A picture cannot be read.
        """
        return thumbnails_of(samples, self.root, self.settings)


def make_split(root: Path, settings: SplitSettings, *, scan: bool = True) -> Split:
    """Lists the images, leaves out what cannot be read, and divides the rest.

    Args:
        root: The folder.
        settings: How.
        scan: Whether files that are no readable pictures are looked for.

    Raises:
        FileNotFoundError: The root, or a file of the split, is missing.
        ValueError: Unreadable files, unless `on_error` skips them; or images that do not allow the split.
    """
    found = list_images(root, settings, tell=True)
    unreadable = find_unreadable(found.samples, root, settings) if scan else {}
    readable = [sample for sample in found.samples if sample.path not in unreadable]
    return Split(
        settings=settings,
        root=root,
        class_names=tuple(found.classes),
        samples=tuple(divide(readable, found.kind, root, settings, labels=found.labels)),
        kind=found.kind,
        data_id=digest(f"{sample.path}\t{sample.label}" for sample in relabelled(found.listed, found.labels)),
        unreadable=unreadable,
    )


@dataclass(frozen=True)
class Listing:
    """What a root holds, before anything is opened or divided.

    Args:
        layout: Where the class folders are.
        kind: Of the split.
        listed: All images, each with its folder's class, or '' without one.
        samples: Those that may be used: the same, or those of a file of parts.
        classes: In the order of the model's outputs.
        labels: Those of `data.labels` by path, which take the place of the folders' once the images are divided.
    """

    layout: Layout
    kind: str
    listed: list[Sample]
    samples: list[Sample]
    classes: list[str]
    labels: dict[str, str]


def list_images(root: Path, settings: SplitSettings, *, tell: bool = False) -> Listing:
    """Lists the images of a root.

    With `tell`, it is said how many files were left out since they are no images, and what a file of labels does.
    """
    labels: dict[str, str] = {}
    if settings.labels is None:
        layout = find_layout(root)
        kind = kind_of(root, layout, settings)
        listed = find_samples(root, layout, tell=tell)
        classes = layout.classes
    else:
        layout, listed, labels = labelled_samples(root, settings.labels)
        kind = kind_of(root, layout, settings)
        classes = classes_of(relabelled(listed, labels))
        for line in describe_labels(root, settings.labels, listed, labels) if tell else ():
            log.info("%s", line)
    samples = listed
    if kind == "csv":
        known = sorted(
            {*classes, *(sample.label for sample in listed)}
        )  # what labels take the place of may stand there
        samples = read_split(expanded(str(settings.split)), root=root, classes=known)
        if gone := next((each for each in relabelled(samples, labels) if each.label not in classes), None):
            raise ValueError(
                f"{settings.split} has {gone.path} in the class {gone.label}, of which {settings.labels} leaves no "
                "image; give that image a label there, too"
            )
    return Listing(layout, kind, listed, samples, classes, labels)


def kind_of(root: Path, layout: Layout, settings: SplitSettings) -> str:
    """The kind of split, settled where it was left out, if the root has the folders for it."""
    kind = settings.split
    if kind is None:
        kind = "folders" if layout.ready_made else "random"
    elif kind not in ("random", "blocks", "groups", "folders"):
        if not kind.endswith(".csv"):
            raise ValueError(f"data.split is {kind!r}; choose random, blocks, groups, folders or a .csv file")
        kind = "csv"
    elif layout.ready_made != (kind == "folders"):
        has = "ready-made train / val / test folders" if layout.ready_made else "no train folder"
        instead = "--data.split folders" if layout.ready_made else "--data.split random, blocks or groups"
        raise ValueError(f"data.split is {kind}, but {root} has {has}; use {instead}")
    if settings.fold is not None and kind == "folders":
        raise ValueError("data.fold shares the images out, but split folders has its parts; leave fold out")
    return kind


def find_unreadable(samples: Sequence[Sample], root: Path, settings: SplitSettings) -> dict[str, str]:
    """The files that are no readable pictures, with the reason.

    Raises:
        ValueError: There are some, and `on_error` does not skip them.
    """
    scan = scan_pictures(root, [sample.path for sample in samples], settings.cache_dir)
    if scan.misnamed:
        share = f"{len(scan.misnamed):,} of {len(samples):,} images"
        path, content = next(iter(scan.misnamed.items()))
        log.info("read by content, not by name: %s, such as %s (%s)", share, path, content)
    if not scan.unreadable:
        return {}
    words = f"{len(scan.unreadable):,} of {len(samples):,} images in {root} cannot be read"
    if settings.on_error == "raise":
        table = memory_file(settings.cache_dir, root).with_suffix(".unreadable.csv")
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
    return scan.unreadable


def divide(
    samples: list[Sample],
    kind: str,
    root: Path,
    settings: SplitSettings,
    *,
    labels: dict[str, str],
    tell: bool = True,
) -> list[Sample]:
    """Gives every sample its part by the kind of split, then takes the subset; those of a file have theirs already.

    Labels come between: a correction moves no picture to another part, though it may change which ones a subset keeps.

    Args:
        samples: With their folders' classes.
        kind: Of the split.
        root: The folder.
        settings: How.
        labels: By path, in the place of the folders'.
        tell: Say what the split of blocks drops.
    """
    fractions = {"val_fraction": settings.val_fraction, "test_fraction": settings.test_fraction}
    seed, fold = settings.seed, settings.fold
    kept = read_kept(expanded(settings.keep_parts)) if settings.keep_parts and kind != "csv" else {}
    if kind == "folders":
        samples = split_folders(samples, val_fraction=settings.val_fraction, seed=seed)
    elif kind == "random":
        samples = split_random(samples, **fractions, seed=seed, fold=fold, kept=kept)
    elif kind == "blocks":
        length, guard = settings.block_length, settings.guard
        samples = split_blocks(
            samples, **fractions, block_length=length, guard=guard, seed=seed, fold=fold, kept=kept, tell=tell
        )
        if guard > 0 and any(sample.split != "train" for sample in samples):
            samples = without_repeats(samples, root, settings, tell=tell)
    elif kind == "groups":
        samples = hold_out(
            grouped(samples, root, settings),
            **fractions,
            seed=seed,
            fold=fold,
            kept=kept,
            what=f"groups by {settings.group_by}",
            instead="choose another data.group_by",
        )
    samples = relabelled(samples, labels) if labels else samples
    if settings.subset is not None:
        samples = take_subset(samples, per_class=settings.subset, seed=seed)
    return samples


def grouped(samples: list[Sample], root: Path, settings: SplitSettings) -> list[Sample]:
    """The samples with the groups of `group_by`."""
    assert settings.group_by is not None, "checked by the settings"
    if settings.group_by != "duplicates":
        return group_samples(samples, settings.group_by)
    groups = duplicate_groups(thumbnails_of(samples, root, settings))
    return [replace(sample, group=str(group)) for sample, group in zip(samples, groups, strict=True)]


def without_repeats(samples: list[Sample], root: Path, settings: SplitSettings, *, tell: bool) -> list[Sample]:
    """The samples without frames that show once more what is held out from them, and without `guard` around those.

    First validation frames that repeat a test one go, then training frames that repeat one of those left. With `tell`,
    it is said how many.
    """
    parts: tuple[tuple[Literal["val", "train"], str, str], ...] = (
        ("val", "validation frames repeat a test one", "validate"),
        ("train", "training frames repeat a held-out one", "train"),
    )
    thumbnails = dict(zip((each.path for each in samples), thumbnails_of(samples, root, settings), strict=True))
    for part, found, deed in parts:
        own = [sample.path for sample in samples if sample.split == part]
        held = [sample.path for sample in samples if sample.split not in ("train", part)]
        if not own or not held:
            continue
        some, others = (np.stack([thumbnails[path] for path in paths]) for paths in (own, held))
        pairs = distances(some, others, f"looking for repeated frames in {part}")
        repeats = np.concatenate([near.any(axis=1) for _, _, near in pairs])
        if not repeats.any():
            continue
        names = [path for path, repeat in zip(own, repeats, strict=True) if repeat]
        kept = drop_repeats(samples, names, guard=settings.guard, part=part)
        if tell:
            text = "%d %s, such as %s: with those around them, %d do not %s"
            log.info(text, len(names), found, names[0], len(samples) - len(kept), deed)
        samples = kept
    return samples


def thumbnails_of(samples: Sequence[Sample], root: Path, settings: SplitSettings) -> Thumbnails:
    """The samples' thumbnails, (N, 16, 16, 3), kept where the settings say."""
    paths = [sample.path for sample in samples]
    return read_thumbnails(root, paths, cache=settings.cache, cache_dir=settings.cache_dir)


def check_parts(split: Split) -> None:
    """Refuses a split that does not allow training, and warns of scores that leave a class out."""
    counts = split.counts()
    where = f"the split {split.name} of {split.root}"
    for part in ("train", "val"):
        if part not in counts and not (part == "val" and split.settings.val_fraction == 0):
            raise ValueError(f"{where} leaves no image for {part}")
    missing = {part: [name for name in split.class_names if name not in counts[part]] for part in counts}
    if missing["train"]:
        raise ValueError(
            f"{where} leaves no image to train on for the class{'es' * (len(missing['train']) > 1)} "
            f"{', '.join(missing['train'])}; choose another split, or take the folder away"
        )
    lacking = [f"{part} without {', '.join(names)}" for part, names in missing.items() if names]
    if lacking:
        log.warning("%s leaves %s: scores there say nothing about these", where, " and ".join(lacking))


def digest(lines: Iterable[str]) -> str:
    """Twelve hexadecimal digits of the lines' SHA-256."""
    text = "\n".join(lines)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
