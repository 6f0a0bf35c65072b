"""Who trains, who validates, who tests: pure functions from samples to samples with their part."""

import csv
import logging
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt

from vit_lightning.data.index import Sample
from vit_lightning.files import cell, cell_of_path, csv_line, read_cell

PARTS = ("train", "val", "test")

#: The part of each image of an earlier split that is to be kept, by path.
Kept = Mapping[str, str]

log = logging.getLogger(__name__)

#: Random draws of held-out groups from which the one nearest to the data's class balance is taken.
GROUP_DRAWS = 2000

#: With many groups and classes fewer are drawn, so that no more than so many counts are summed up: many groups come out
#: balanced by themselves.
GROUPS_DRAWN = 20_000_000


@dataclass(frozen=True)
class Fold:
    """One of several equal shares of the data that take turns as the test part: together they score all of it."""

    number: int  # from 1
    of: int

    @classmethod
    def parse(cls, text: str) -> "Fold":
        """Reads `2/5`.

        Raises:
            ValueError: It is written otherwise, or there is no such fold.
        """
        match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)
        if not match or not 1 <= int(match[1]) <= int(match[2]) or int(match[2]) < 2:
            raise ValueError(f"data.fold is {text!r}; expected the number of a fold and how many there are, as in 2/5")
        return cls(int(match[1]), int(match[2]))

    def span(self, count: int) -> tuple[int, int]:
        """Where the fold begins in so many things, and how many it takes."""
        begin, end = (number * count // self.of for number in (self.number - 1, self.number))
        return begin, end - begin


def split_random(
    samples: list[Sample],
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    fold: Fold | None = None,
    kept: Kept = MappingProxyType({}),
) -> list[Sample]:
    """A seeded draw within every class, so that each part has the whole set's class shares.

    Frames of one clip land on both sides: on video this split measures memory more than recognition. With a `fold`,
    that share of each class is the test part. Of images that are `kept` the others are drawn to make the shares whole.

    Raises:
        ValueError: A class has too few images for every part to get one.
    """
    rng = np.random.default_rng(seed)
    parts = {sample: kept[sample.path] for sample in samples if sample.path in kept}
    for label, members in group_by_label(samples).items():
        val, test = round(val_fraction * len(members)), round(test_fraction * len(members))
        val, test = max(val, int(val_fraction > 0)), max(test, int(test_fraction > 0))
        begin = 0
        if fold is not None:
            begin, test = fold.span(len(members))
            val = max(round(val_fraction * (len(members) - test)), int(val_fraction > 0))
        if val + test >= len(members) and not label and len(members) < len(samples):
            val = test = 0  # a few pictures beside the class folders train
        if val + test >= len(members):
            what = f"class {label}" if label else "what is in no class folder"
            raise ValueError(
                f"{what} has {len(members)} images, too few for {val} in validation, {test} in test and "
                "at least one in training"
            )
        before = Counter(parts[member] for member in members if member in parts)
        members = [member for member in members if member not in parts]
        val, test = max(0, val - before["val"]), max(0, test - before["test"])
        order = rng.permutation(len(members))
        if fold is not None:  # the fold comes after as many as validate, as the test part does
            order = np.roll(order, val - begin)
        for rank, index in enumerate(order):
            parts[members[index]] = "val" if rank < val else "test" if rank < val + test else "train"
    return [replace(sample, split=parts[sample]) for sample in samples]


def split_blocks(
    samples: list[Sample],
    *,
    val_fraction: float,
    test_fraction: float,
    block_length: int,
    guard: int,
    seed: int,
    fold: Fold | None = None,
    kept: Kept = MappingProxyType({}),
    tell: bool = True,
) -> list[Sample]:
    """Runs of `block_length` frame numbers held out whole, with frames that belong to no part around them.

    Training frames within `guard` of a held-out block are dropped, and validation frames within it of a test block:
    what chooses an epoch must not have seen what the score is of. The test part is whole.

    Args:
        samples: Images whose names end in their frame number.
        val_fraction: Share of the blocks that validate.
        test_fraction: Share of the blocks that test.
        block_length: Frames in a block.
        guard: Frames on either side of a held-out block that do not train, and of a test block that do not validate.
        seed: Of the draw; see `hold_out`.
        fold: The share of the blocks that tests instead.
        kept: Images whose blocks keep their part; see `hold_out`.
        tell: Whether repeated numbers, and validation frames that are dropped, are told of.

    Returns:
        The samples with their parts and blocks; the guard frames are left out.

    Raises:
        ValueError: A name without a number, too few blocks for the fractions, or a part that the guard leaves empty.
    """
    frame = frame_numbers(samples, tell=tell)
    samples = [replace(each, group=str(number // block_length)) for each, number in zip(samples, frame, strict=True)]
    held = hold_out(
        samples,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        seed=seed,
        fold=fold,
        kept=kept,
        what=f"blocks of {block_length} frames",
        instead="lower block_length or the fractions",
    )
    near = {part: np.zeros(len(samples), dtype=bool) for part in ("val", "test")}
    for part, block in {(sample.split, int(sample.group)) for sample in held if sample.split != "train"}:
        first = block * block_length
        near[part] |= (frame >= first - guard) & (frame < first + block_length + guard)
    dropped = {"train": near["val"] | near["test"], "val": near["test"], "test": np.zeros(len(samples), dtype=bool)}
    left = [sample for index, sample in enumerate(held) if not dropped[sample.split][index]]
    before, after = Counter(sample.split for sample in held), Counter(sample.split for sample in left)
    for part, deed in (("train", "train"), ("val", "validate")):
        if before[part] and not after[part]:
            raise ValueError(f"guard {guard} leaves no frame to {deed} on; lower it below block_length {block_length}")
    if tell and before["val"] > after["val"]:
        lost = before["val"] - after["val"]
        log.info("%d validation frames are within guard %d of a test block: they do not validate", lost, guard)
    return left


def frame_numbers(samples: list[Sample], *, tell: bool = True) -> npt.NDArray[np.int64]:
    """The frame number of each sample; with `tell`, a warning where two have the same.

    Raises:
        ValueError: A name has none.
    """
    numbers = []
    for sample in samples:
        if sample.number is None:
            raise ValueError(
                f"split blocks goes by frame numbers, and {sample.path} has none; name files like frame12.jpg, or use "
                "split random"
            )
        numbers.append(sample.number)
    repeated = next((number for number, count in Counter(numbers).items() if count > 1), None)
    if tell and repeated is not None:
        first, second = [sample.path for sample, number in zip(samples, numbers, strict=True) if number == repeated][:2]
        log.warning(
            "frame numbers repeat (%s, %s): blocks takes the files for one video, and holds the same numbers of each "
            "sequence out",
            first,
            second,
        )
    return np.array(numbers)


def hold_out(
    samples: list[Sample],
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    what: str,
    instead: str,
    fold: Fold | None = None,
    kept: Kept = MappingProxyType({}),
) -> list[Sample]:
    """Groups of samples held out whole.

    Which of them is drawn `GROUP_DRAWS` times, less often where there are very many; the draw whose parts come nearest
    to the wanted number of images of each class is taken. All folds are of one draw.

    Args:
        samples: Each with its group.
        val_fraction: Share of the groups that validate.
        test_fraction: Share of the groups that test.
        seed: Of the draw.
        what: The groups in words, for messages.
        instead: What helps where they are too few.
        fold: The share of the groups that tests instead.
        kept: Images of an earlier split, whose groups keep their part: test where one of them tested, validation where
            one validated. Of the other groups as many are held out as make the fractions whole again.

    Raises:
        ValueError: Too few groups for the fractions.
    """
    names = sorted({sample.group for sample in samples}, key=lambda name: (len(name), name))  # numbers in their order
    place = {name: index for index, name in enumerate(names)}
    counts = class_counts(samples, place)
    rng = np.random.default_rng(seed)
    part_of = np.full(len(names), "train", dtype=object)
    if fold is not None:
        sizes = [Fold(number, fold.of).span(len(names))[1] for number in range(1, fold.of + 1)]
        if 0 in sizes:
            raise ValueError(f"{len(names)} {what} are too few for {fold.of} folds; {instead}")
        begin, size = fold.span(len(names))
        part_of[draw(counts, sizes, rng)[begin : begin + size]] = "test"
        test_fraction = 0.0
    before = kept_groups(samples, kept)
    part_of[[place[group] for group in before]] = list(before.values())
    rest = np.flatnonzero([name not in before and part == "train" for name, part in zip(names, part_of, strict=True)])
    count = len(rest) + len(before)
    held = {
        part: max(0, max(1, round(fraction * count)) - list(before.values()).count(part))
        for part, fraction in (("val", val_fraction), ("test", test_fraction))
        if fraction > 0
    }
    if before:  # some of the new ones train, too, and there may be none
        held = {part: min(number, len(rest) // 2) for part, number in held.items()}
    elif sum(held.values()) >= len(rest):
        wanted = " and ".join(f"{count} in {part}" for part, count in held.items())
        raise ValueError(f"{len(rest)} {what} are too few for {wanted} and at least one in training; {instead}")
    order = rest[draw(counts[rest], list(held.values()), rng)] if len(rest) else rest
    for part, chosen in zip(held, np.split(order, np.cumsum([*held.values()], dtype=int)), strict=False):
        part_of[chosen] = part
    return [replace(sample, split=str(part_of[place[sample.group]])) for sample in samples]


def class_counts(samples: list[Sample], place: Mapping[str, int]) -> npt.NDArray[np.float64]:
    """Images of each class in each group, (G, K), the classes sorted; `place` has the groups' rows."""
    labels = {label: index for index, label in enumerate(sorted({sample.label for sample in samples}))}
    counts = np.zeros((len(place), len(labels)))
    np.add.at(counts, ([place[sample.group] for sample in samples], [labels[sample.label] for sample in samples]), 1)
    return counts


def kept_groups(samples: list[Sample], kept: Kept) -> dict[str, str]:
    """The part of each group of which an image is kept: the one furthest from training that any of them had."""
    found: dict[str, str] = {}
    for sample in samples:
        if sample.path in kept:
            found[sample.group] = max(found.get(sample.group, PARTS[0]), kept[sample.path], key=PARTS.index)
    return found


def draw(counts: npt.NDArray[np.float64], sizes: list[int], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """An order of groups whose first `sizes[0]`, next `sizes[1]` and so on have the classes nearest to their share.

    Args:
        counts: Images of each class in each group, (G, K).
        sizes: Groups a part.
        rng: Draws the orders that are compared.
    """
    tries = max(1, min(GROUP_DRAWS, GROUPS_DRAWN // counts.size)) if sizes else 1
    ends = np.cumsum(sizes, dtype=int)
    wanted = counts.sum(axis=0) * np.array(sizes)[:, None] / len(counts)
    best, least = np.arange(len(counts)), np.inf
    for _ in range(tries):
        order = rng.permutation(len(counts))
        parts = np.split(counts[order[: sum(sizes)]], ends[:-1]) if sizes else []
        distance = sum(float(np.abs(part.sum(axis=0) - share).sum()) for part, share in zip(parts, wanted, strict=True))
        if distance < least:
            best, least = order, distance
    return best


def drop_repeats(
    samples: list[Sample], repeated: Iterable[str], *, guard: int, part: Literal["train", "val"] = "train"
) -> list[Sample]:
    """The samples without a part's images that repeat held-out ones, and without their neighbours by number.

    Args:
        samples: The split.
        repeated: Paths of the part's images that are near-duplicates: training ones of held-out ones, validation ones
            of test ones.
        guard: So many frame numbers on either side of each go, too.
        part: The part that loses them.

    Raises:
        ValueError: None is left in the part.
    """
    names = set(repeated)
    numbers = {sample.number for sample in samples if sample.path in names}
    near = {number + offset for number in numbers if number is not None for offset in range(-guard, guard + 1)}
    kept = [
        sample for sample in samples if sample.split != part or (sample.path not in names and sample.number not in near)
    ]
    if not any(sample.split == part for sample in kept):
        own, other = ("training", "held-out") if part == "train" else ("validation", "test")
        raise ValueError(
            f"every {own} image repeats a {other} one, or is within guard {guard} of one that does; is the same video "
            "in the folder twice? If not, lower data.guard"
        )
    return kept


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
    """Samples by class, classes sorted, samples in their order; those of no class folder last.

    So the others are drawn as they would be without them.
    """
    labels = sorted({sample.label for sample in samples}, key=lambda label: (not label, label))
    groups: dict[str, list[Sample]] = {label: [] for label in labels}
    for sample in samples:
        groups[sample.label].append(sample)
    return groups


def count_table(samples: Sequence[Sample]) -> dict[str, Counter[str]]:
    """Images a class in every part that has any: {"train": {"jerry": 903, ...}, ...}."""
    table = {part: Counter(sample.label for sample in samples if sample.split == part) for part in PARTS}
    return {part: counter for part, counter in table.items() if counter}


def write_split(path: Path, samples: Sequence[Sample]) -> None:
    """Writes `path,label,split`, a line an image, and `group` where there are groups; `read_split` takes it back."""
    columns = ("path", "label", "split", "group")[: 4 if any(sample.group for sample in samples) else 3]
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(csv_line(columns))
        for sample in samples:
            row = cell_of_path(sample.path), cell(sample.label), sample.split, cell(sample.group)
            file.write(csv_line(row[: len(columns)]))


def read_table(path: Path, columns: tuple[str, ...], what: str) -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV file, each with the number of its line.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: No CSV, a column that is missing, or a row that lacks a cell of one.
    """
    expected = ",".join(columns)
    if not path.is_file():
        raise FileNotFoundError(f"{what} {path} does not exist; give a CSV with the columns {expected}")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            found = list(reader.fieldnames or ())
            rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{what} {path} is no CSV in UTF-8 ({error}); expected {expected}") from error
    if len(found) > len(set(found)):
        raise ValueError(f"{what} {path} has a column twice; expected {expected}")
    if not set(columns) <= set(found):
        shown = ",".join(found)[:80] or "nothing"
        shown = shown if shown.isprintable() else repr(shown)
        raise ValueError(f"{what} {path} has the columns {shown}; expected {expected}")
    for line, row in rows:
        if None in row or any(row[column] is None for column in columns):  # None has the cells beyond the columns
            few = "many" if None in row else "few"
            raise ValueError(f"line {line} of {path} has too {few} cells; expected {','.join(found)}")
    return rows


def read_kept(path: Path) -> Kept:
    """The part of each image of a split file, whether it is still there or not.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: It is no such file, or has an unknown part.
    """
    rows = read_table(path, ("path", "split"), "the file of parts to keep")
    for line, row in rows:
        if row["split"] not in PARTS:
            raise ValueError(f"line {line} of {path} has the part {row['split']!r}; expected train, val or test")
    return {PurePath(row["path"]).as_posix(): row["split"] for _, row in rows}


def read_split(path: Path, *, root: Path, classes: list[str]) -> list[Sample]:
    """Reads a split file, with the column `group` where it has one; images that it does not name are not used.

    Raises:
        FileNotFoundError: The file is missing, or an image it names is not below the root.
        ValueError: No CSV, other columns, a row that lacks a cell, an unknown part or class, a path that leads out of
            the root, or an image named twice.
    """
    samples = []
    seen: set[str] = set()
    for line, row in read_table(path, ("path", "label", "split"), "the split file"):
        where = f"line {line} of {path}"
        named = PurePath(row["path"])  # ./a.jpg and a.jpg are one image
        sample = Sample(named.as_posix(), read_cell(row["label"]), row["split"], read_cell(row.get("group") or ""))
        if sample.split not in PARTS:
            raise ValueError(f"{where} has the part {sample.split!r}; expected train, val or test")
        if sample.label not in classes:
            raise ValueError(f"{where} has the class {sample.label!r}; the data has {', '.join(classes)}")
        if named.anchor or ".." in named.parts:
            raise ValueError(f"{where} names {row['path']}, which leads out of {root}; expected a path relative to it")
        if sample.path in seen:
            raise ValueError(f"{where} names {sample.path} a second time; an image belongs to one part")
        if not os.path.isfile(root / named):  # noqa: PTH113  # a name that no file can have is no error of the system
            raise FileNotFoundError(f"{where} names {sample.path}, which is not in {root}; is data.root right?")
        seen.add(sample.path)
        samples.append(sample)
    return samples
