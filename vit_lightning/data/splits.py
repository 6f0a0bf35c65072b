"""Who trains, who validates, who tests: pure functions from samples to samples with their part."""

import csv
import logging
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path, PurePath

import numpy as np

from vit_lightning.data.index import Sample

PARTS = ("train", "val", "test")

log = logging.getLogger(__name__)

#: Random draws of held-out blocks from which the one nearest to the data's class balance is taken.
BLOCK_DRAWS = 2000


def split_random(samples: list[Sample], *, val_fraction: float, test_fraction: float, seed: int) -> list[Sample]:
    """A seeded draw within every class, so that each part has the whole set's class shares.

    Frames of one clip land on both sides: on video this split measures memory more than recognition.

    Raises:
        ValueError: A class has too few images for every part to get one.
    """
    rng = np.random.default_rng(seed)
    parts = {}
    for label, members in group_by_label(samples).items():
        val, test = round(val_fraction * len(members)), round(test_fraction * len(members))
        val, test = max(val, int(val_fraction > 0)), max(test, int(test_fraction > 0))
        if val + test >= len(members):
            raise ValueError(
                f"class {label} has {len(members)} images, too few for {val} in validation, {test} in test and "
                "at least one in training"
            )
        order = rng.permutation(len(members))
        for rank, index in enumerate(order):
            parts[members[index]] = "val" if rank < val else "test" if rank < val + test else "train"
    return [replace(sample, split=parts[sample]) for sample in samples]


def split_blocks(
    samples: list[Sample], *, val_fraction: float, test_fraction: float, block_length: int, guard: int, seed: int
) -> list[Sample]:
    """Runs of `block_length` frame numbers held out whole; training frames within `guard` of one are dropped.

    Which blocks are held out is drawn `BLOCK_DRAWS` times; the draw whose parts come nearest to the wanted number of
    frames of each class is taken.

    Args:
        samples: Images whose names end in their frame number.
        val_fraction: Share of the blocks that validate.
        test_fraction: Share of the blocks that test.
        block_length: Frames in a block.
        guard: Frames on either side of a held-out block that do not train.
        seed: Of the draw.

    Returns:
        The samples with their parts; the guard frames are left out.

    Raises:
        ValueError: A name without a number, or too few blocks for the fractions.
    """
    numbers = []
    for sample in samples:
        if sample.number is None:
            raise ValueError(
                f"split blocks goes by frame numbers, and {sample.path} has none; name files like frame12.jpg, or use "
                "split random"
            )
        numbers.append(sample.number)
    frame = np.array(numbers)
    repeated = next((number for number, count in Counter(numbers).items() if count > 1), None)
    if repeated is not None:
        first, second = [sample.path for sample, number in zip(samples, numbers, strict=True) if number == repeated][:2]
        log.warning(
            "frame numbers repeat (%s, %s): blocks takes the files for one video, and holds the same numbers of each "
            "sequence out",
            first,
            second,
        )
    labels = sorted({sample.label for sample in samples})
    label = np.array([labels.index(sample.label) for sample in samples])
    blocks, block = np.unique(frame // block_length, return_inverse=True)
    held = {
        part: max(1, round(fraction * len(blocks)))
        for part, fraction in (("val", val_fraction), ("test", test_fraction))
        if fraction > 0
    }
    if sum(held.values()) >= len(blocks):
        wanted = " and ".join(f"{count} in {part}" for part, count in held.items())
        raise ValueError(
            f"{len(blocks)} blocks of {block_length} frames are too few for {wanted} and at least one in training; "
            "lower block_length or the fractions"
        )

    counts = np.zeros((len(blocks), len(labels)))  # frames of each class in each block
    np.add.at(counts, (block, label), 1)
    rng = np.random.default_rng(seed)
    draws = np.stack([rng.permutation(len(blocks)) for _ in range(BLOCK_DRAWS if held else 1)])
    distance = np.zeros(len(draws))
    for start, count in spans(held):
        wanted_counts = counts.sum(axis=0) * count / len(blocks)
        distance += np.abs(counts[draws[:, start : start + count]].sum(axis=1) - wanted_counts).sum(axis=1)
    best = draws[distance.argmin()]
    part_of_block = np.full(len(blocks), "train", dtype=object)
    for part, (start, count) in zip(held, spans(held), strict=True):
        part_of_block[best[start : start + count]] = part

    near_held = np.zeros(len(samples), dtype=bool)
    for first in blocks[part_of_block != "train"] * block_length:
        near_held |= (frame >= first - guard) & (frame < first + block_length + guard)
    part_of_sample = part_of_block[block]
    kept = (part_of_sample != "train") | ~near_held
    if not (part_of_sample[kept] == "train").any():
        raise ValueError(f"guard {guard} leaves no frame to train on; lower it below block_length {block_length}")
    return [
        replace(sample, split=str(part))
        for sample, part, keep in zip(samples, part_of_sample, kept, strict=True)
        if keep
    ]


def spans(held: dict[str, int]) -> list[tuple[int, int]]:
    """Where each held-out part begins in a draw, and how many blocks it takes: {val: 2, test: 3} -> (0, 2), (2, 3)."""
    counts = list(held.values())
    return [(sum(counts[:i]), count) for i, count in enumerate(counts)]


def split_folders(samples: list[Sample], *, val_fraction: float, seed: int) -> list[Sample]:
    """The ready-made parts as they are; without a validation folder it is drawn from training, class by class."""
    if any(sample.split == "val" for sample in samples) or val_fraction == 0:
        return samples
    train = [sample for sample in samples if sample.split == "train"]
    rest = [sample for sample in samples if sample.split != "train"]
    return split_random(train, val_fraction=val_fraction, test_fraction=0.0, seed=seed) + rest


def take_subset(samples: list[Sample], *, per_class: int, seed: int) -> list[Sample]:
    """At most `per_class` images of every class, in the split's own proportions, drawn after splitting.

    A part that a class has images in keeps at least one of them.

    Raises:
        ValueError: `per_class` is smaller than the number of parts.
    """
    rng = np.random.default_rng(seed)
    kept: set[Sample] = set()
    for label, members in group_by_label(samples).items():
        by_part: dict[str, list[Sample]] = defaultdict(list)
        for sample in members:
            by_part[sample.split].append(sample)
        if per_class < len(by_part):
            raise ValueError(
                f"subset {per_class} is too small for class {label}: {len(by_part)} parts need an image each"
            )
        total = min(per_class, len(members))
        quota = {part: max(1, round(total * len(group) / len(members))) for part, group in by_part.items()}
        largest = max(quota, key=lambda part: quota[part])
        quota[largest] -= sum(quota.values()) - total
        for part, group in by_part.items():
            kept.update(group[index] for index in rng.permutation(len(group))[: quota[part]])
    return [sample for sample in samples if sample in kept]


def group_by_label(samples: list[Sample]) -> dict[str, list[Sample]]:
    """Samples by class, classes sorted, samples in their order."""
    groups: dict[str, list[Sample]] = {label: [] for label in sorted({sample.label for sample in samples})}
    for sample in samples:
        groups[sample.label].append(sample)
    return groups


def count_table(samples: list[Sample]) -> dict[str, Counter[str]]:
    """Images a class in every part that has any: {"train": {"jerry": 903, ...}, ...}."""
    table = {part: Counter(sample.label for sample in samples if sample.split == part) for part in PARTS}
    return {part: counter for part, counter in table.items() if counter}


def write_split(path: Path, samples: list[Sample]) -> None:
    """Writes `path,label,split`, a line an image; `read_split` takes it back."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("path", "label", "split"))
        writer.writerows((sample.path, sample.label, sample.split) for sample in samples)


def read_split(path: Path, *, root: Path, classes: list[str]) -> list[Sample]:
    """Reads a split file; images that it does not name are not used.

    Raises:
        FileNotFoundError: The file is missing, or an image it names is not below the root.
        ValueError: No CSV, other columns, a row that lacks a cell, an unknown part or class, a path that leads out of
            the root, or an image named twice.
    """
    if not path.is_file():
        raise FileNotFoundError(f"the split file {path} does not exist; give a CSV with the columns path,label,split")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or ())
            rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"the split file {path} is no CSV in UTF-8 ({error}); expected path,label,split") from error
    if not {"path", "label", "split"} <= set(columns):
        found = ",".join(columns)[:80] or "nothing"
        found = found if found.isprintable() else repr(found)
        raise ValueError(f"the split file {path} has the columns {found}; expected path,label,split")
    samples = []
    seen: set[str] = set()
    for line, row in rows:
        where = f"line {line} of {path}"
        if None in (row["path"], row["label"], row["split"]):
            raise ValueError(f"{where} has too few cells; expected {','.join(columns)}")
        named = PurePath(row["path"])  # ./a.jpg and a.jpg are one image
        sample = Sample(named.as_posix(), row["label"], row["split"])
        if sample.split not in PARTS:
            raise ValueError(f"{where} has the part {sample.split!r}; expected train, val or test")
        if sample.label not in classes:
            raise ValueError(f"{where} has the class {sample.label!r}; the data has {', '.join(classes)}")
        if named.anchor or ".." in named.parts:
            raise ValueError(f"{where} names {row['path']}, which leads out of {root}; expected a path relative to it")
        if sample.path in seen:
            raise ValueError(f"{where} names {sample.path} a second time; an image belongs to one part")
        if not (root / named).is_file():
            raise FileNotFoundError(f"{where} names {sample.path}, which is not in {root}; is data.root right?")
        seen.add(sample.path)
        samples.append(sample)
    return samples
