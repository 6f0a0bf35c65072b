"""Images of another set than the one that a run was made on: none of them trained, so all of them are scored."""

import logging
import os
from dataclasses import replace
from pathlib import Path

from vit_lightning.commands.seen import look_the_same
from vit_lightning.data.index import Sample
from vit_lightning.data.splits import read_table
from vit_lightning.data.splitting import Split, SplitSettings, grouped, make_split
from vit_lightning.runs import read_status

log = logging.getLogger(__name__)

#: So many pictures are looked at to tell a copy of the data from another set whose files have the same names.
LOOKED_AT = 50


def is_external(root: Path, run_folder: Path, settings: SplitSettings) -> bool:
    """Whether a root holds other images than those of a run's `split.csv`, rather than a copy of them.

    Raises:
        ValueError: The split file is broken.
    """
    known = (read_status(run_folder / "status.json").get("data") or {}).get("root")
    if known is not None and os.path.realpath(root) == os.path.realpath(known):
        return False
    rows = read_table(run_folder / "split.csv", ("path", "label", "split"), "the split file")
    paths = [row["path"] for _, row in rows if (root / row["path"]).is_file()]
    if not paths:
        return True
    try:
        same = look_the_same(root, Path(str(known)), paths[:: len(paths) // LOOKED_AT + 1], settings)
    except (OSError, ValueError):
        return False  # they are no longer where they were: moved, as it seems
    return sum(same) < len(same) / 2


def external_split(root: Path, settings: SplitSettings, kind: str) -> Split:
    """All images of a root as a test part; those of its test folder alone where it has one.

    Args:
        root: The folder.
        settings: Of the run: its way of grouping images is taken over as far as it goes.
        kind: Of the run's split: where that was by `blocks`, images are grouped by their numbers.

    Raises:
        FileNotFoundError: The root is missing.
        ValueError: Unreadable files, unless `on_error` skips them.
    """
    undivided = replace(
        settings, split=None, group_by=None, fold=None, keep_parts=None, val_fraction=0.0, test_fraction=0.0
    )
    split = make_split(root, undivided)
    samples = split.part("test") or list(split.samples)
    if settings.group_by is not None:
        try:
            samples = grouped(samples, root, settings)
        except (OSError, ValueError) as error:  # a file of groups, say, that knows the run's own images alone
            log.warning("intervals take each image by itself: %s", error)
    elif kind == "blocks":
        samples = [replace(sample, group=block_of(sample, settings.block_length)) for sample in samples]
    samples = [replace(sample, split="test") for sample in samples]
    return replace(split, samples=tuple(samples), kind="external")


def block_of(sample: Sample, length: int) -> str:
    """The block of frames that an image is of; none where its name has no number."""
    return "" if sample.number is None else str(sample.number // length)
