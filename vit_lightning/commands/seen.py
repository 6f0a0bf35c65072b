"""Whether weights have seen the images they are scored on: held against the splits of all runs that they come from."""

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.cli import LightningArgumentParser

from vit_lightning.data.near_duplicates import distances, read_thumbnails
from vit_lightning.data.splits import read_table
from vit_lightning.data.splitting import Split, SplitSettings
from vit_lightning.runs import read_status, run_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seen:
    """How many images of a part the weights were trained on, by themselves or in a run they started from.

    Args:
        part: What is scored.
        images: How many there are.
        trained: Those of them that trained the weights.
        chose: Those of the others that validated, and so chose a checkpoint.
        by: The runs that trained on them.
        unknown: The runs and checkpoints of which it is not known what they were trained on.
    """

    part: str
    images: int
    trained: int = 0
    chose: int = 0
    by: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def lines(self) -> list[tuple[int, str]]:
        """The same in words, each line with its level of logging: a warning is what makes the score doubtful."""
        images, lines = f"{self.images} {self.part} images", []
        if self.trained or not self.unknown:
            level = logging.WARNING if self.trained else logging.INFO
            lines.append((level, f"of {images} {self.trained} were seen by these weights or a run they started from"))
        if self.unknown:
            names = " and ".join(self.unknown)
            lines.append((logging.WARNING, f"what {names} learned from is not known: maybe these very {images}"))
        if self.chose and self.part == "test":
            lines.append(
                (logging.WARNING, f"{self.chose} of these images chose a checkpoint that the weights come from")
            )
        return lines

    def record(self) -> dict[str, Any]:
        """What `status.json` and `metrics.json` say of it."""
        told = {"part": self.part, "images": self.images, "seen": self.trained, "chose": self.chose}
        return told | {"unknown": list(self.unknown), "sentence": "; ".join(line for _, line in self.lines)}

    def tell(self) -> None:
        """Says it."""
        for level, line in self.lines:
            log.log(level, "%s", line)

    def refuse(self, instead: str) -> None:
        """Refuses to score images that the weights were trained on.

        Args:
            instead: What to do, beside `--allow_seen true`.

        Raises:
            ValueError: There are some.
        """
        if self.trained:
            raise ValueError(
                f"{self.trained} of the {self.images} {self.part} images were trained on by {' and '.join(self.by)}: a "
                f"score on them measures memory; {instead}, or score them all the same with --allow_seen true"
            )


def add_allow_seen(parser: LightningArgumentParser) -> None:
    """--allow_seen, of the commands that score."""
    text = "Also score images that the weights, or a run they started from, were trained on."
    parser.add_argument("--allow_seen", type=bool, default=False, help=text)


# Where weights come from


def lineage(checkpoint: Path) -> list[dict[str, Any]]:
    """The run that a checkpoint belongs to and all that it started from, the latest first, as `status.json` keeps them.

    Each has its name as `run`, its `folder`, and when it `started`, by which another run that took the name later is
    told apart. The folder is None where a checkpoint is no run's, and nothing is known of what it was trained on.
    """
    found: list[dict[str, Any]] = []
    start: Path | None = checkpoint
    while start is not None:
        folder = run_of(start)
        if folder is None:
            return [*found, {"run": start.name, "folder": None}]
        status = read_status(folder / "status.json")
        origin = {"run": folder.name, "folder": str(folder), "started": status.get("started")}
        if origin in found:
            break
        found.append(origin)
        if isinstance(status.get("ancestors"), list):
            return found + [each for each in status["ancestors"] if isinstance(each, dict)]
        config, epoch = older_run(folder)
        start = Path(config) if config else None
        if start is None and epoch > 1:
            return [*found, {"run": f"the checkpoint that {folder.name} went on from", "folder": None}]
    return found


def older_run(folder: Path) -> tuple[str | None, int]:
    """What a run from before `ancestors` began with: the `init_from` of its config, and its first epoch.

    That is a later one than 1 where it went on from a `--ckpt_path`, which is told nowhere.
    """
    start, epoch = None, 1
    with suppress(OSError, ValueError, yaml.YAMLError, LookupError, TypeError):
        start = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["model"].get("init_from")
    with suppress(OSError, ValueError, LookupError):
        epoch = int((folder / "history.csv").read_text(encoding="utf-8").splitlines()[1].partition(",")[0])
    return start, epoch


@dataclass(frozen=True)
class Record:
    """What a run's folder says of the images that it used: their root, its `data.id`, and the part of each by path."""

    root: str
    data_id: str | None
    parts: Mapping[str, str]


def read_record(origin: Mapping[str, Any], beside: Path) -> Record | None:
    """The images of a run; None where they cannot be told, since it is gone or another one has its name by now.

    Args:
        origin: Of a `lineage`.
        beside: Where it is looked for as well: runs that are moved are moved together.
    """
    if not origin.get("folder"):
        return None
    for folder in (Path(origin["folder"]), beside / str(origin.get("run"))):
        status = read_status(folder / "status.json")
        if origin.get("started") is not None and status.get("started") != origin["started"]:
            continue
        try:
            rows = read_table(folder / "split.csv", ("path", "label", "split"), "the split file")
        except (OSError, ValueError):
            continue
        data = status.get("data") or {}
        parts = {row["path"].removeprefix("./"): row["split"] for _, row in rows}
        return Record(str(data.get("root") or ""), data.get("id"), parts)
    return None


# What they have seen


def look_back(split: Split, part: str, checkpoint: Path) -> Seen:
    """Holds the images of a part against all that a checkpoint's weights come from.

    Args:
        split: Who is held out.
        part: What is scored.
        checkpoint: Of the weights that score it, or that are trained further and then do.
    """
    logs = (run_of(checkpoint) or checkpoint).absolute().parent
    held = [sample.path for sample in split.part(part)]
    trained: set[str] = set()
    chose: set[str] = set()
    by, unknown = [], []
    for origin in lineage(checkpoint):
        record = read_record(origin, logs)
        met = None if record is None else known_images(split, held, record)
        name = str(origin.get("run"))
        if record is None or met is None:
            unknown.append(name)
            continue
        learned = {path for path in met if record.parts[met[path]] == "train"}
        by += [name] if learned else []
        trained |= learned
        chose |= {path for path in met if record.parts[met[path]] == "val"}
    return Seen(part, len(held), len(trained), len(chose - trained), tuple(by), tuple(unknown))


def known_images(split: Split, held: Sequence[str], record: Record) -> dict[str, str] | None:
    """Which of the held-out images a run has used, and their paths there; None where that cannot be said.

    An image is the same where its file is, wherever the root begins; and in a copy of the data, where one of the same
    relative path looks the same, in whatever size or format.
    """
    here, there = (os.path.realpath(root) for root in (split.root, record.root or split.root))
    files = {os.path.join(there, path): path for path in record.parts}  # noqa: PTH118  # of 100,000 images
    places = {path: os.path.join(here, path) for path in held}  # noqa: PTH118  # as above
    met = {path: files[place] for path, place in places.items() if place in files}
    named = [] if here == there else [path for path in held if path not in met and path in record.parts]
    if not named:
        return met
    alike = record.data_id == split.data_id or record.parts == {each.path: each.split for each in split.samples}
    if alike and not Path(there).is_dir():  # moved: the list of files, or the split itself, is the same
        return met | {path: path for path in named}
    try:
        same = look_the_same(split.root, Path(there), named, split.settings)
    except (OSError, ValueError):
        return None
    return met | {path: path for path, equal in zip(named, same, strict=True) if equal}


def look_the_same(one: Path, other: Path, paths: Sequence[str], settings: SplitSettings) -> list[bool]:
    """Whether the pictures of the same relative paths below two roots are near-duplicates.

    Raises:
        OSError: A picture is gone, or cannot be read.
    """
    cache, cache_dir = settings.cache, settings.cache_dir
    some, others = (read_thumbnails(root, paths, cache=cache, cache_dir=cache_dir) for root in (one, other))
    pairs = zip(some, others, strict=True)
    return [bool(next(distances(first[None], second[None]))[2][0, 0]) for first, second in pairs]
