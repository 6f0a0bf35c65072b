"""Finds the images below a root folder, whichever of three layouts it has, without opening one."""

import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

#: Endings of image files, in any case, and the format that each promises.
FORMATS = {
    ".bmp": "BMP",
    ".gif": "GIF",
    ".jpeg": "JPEG",
    ".jpg": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}

#: Names under which a ready-made split's folders are known, and the part each is.
PART_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}

#: How names begin that no user put there: .ipynb_checkpoints has copies of images, which would leak.
HIDDEN = (".", "__")

#: Files that a file manager leaves everywhere.
CLUTTER = ("thumbs.db", "desktop.ini")


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled image: its path relative to the data's root with forward slashes, its class, part and group."""

    path: str
    label: str
    split: str = ""
    #: Images of one group, such as a block of frames, are in one part; '' where each is by itself.
    group: str = ""

    @property
    def number(self) -> int | None:
        """The last digits of the file's name, the frame number where the images are frames of a video.

        More than 18 digits are no frame's number but a digest or the like: None, as without any.
        """
        match = re.search(r"(\d+)\D*$", self.path.rpartition("/")[2].rpartition(".")[0])
        return int(match[1]) if match and len(match[1]) <= 18 else None


@dataclass(frozen=True)
class Layout:
    """Where the classes are: one folder of class folders a part, or a single one whose part is ''."""

    parts: dict[str, Path]

    @property
    def ready_made(self) -> bool:
        """Whether the root comes with its own train / val / test folders."""
        return "" not in self.parts

    @property
    def classes(self) -> list[str]:
        """Names of all class folders, sorted: the order of the model's outputs."""
        return sorted({folder.name for part in self.parts.values() for folder in subfolders(part)})


@contextmanager
def listing(folder: Path | str) -> Iterator[None]:
    """Says what to do where the system does not let one look into a folder.

    Raises:
        OSError: Of the system's kind, in words.
    """
    try:
        yield
    except OSError as error:
        raise type(error)(
            f"the folder {folder} cannot be looked through ({error.strerror}); allow it (chmod u+rx), or take it away"
        ) from error


def subfolders(folder: Path) -> list[Path]:
    """The folders directly in a folder, sorted by name, hidden ones left out."""
    with listing(folder):
        folders = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(HIDDEN)]
    return sorted(folders, key=Path.as_posix)


def has_image(folder: Path) -> bool:
    """Whether an image is directly in a folder."""
    with listing(folder):
        return any(is_image(path) for path in folder.iterdir())


def find_layout(root: Path, *, labelled: bool = False) -> Layout:
    """Recognises `root/<class>`, Kaggle's `root/.../<class>`, and `root/{train,val,test}/<class>`.

    A folder that holds a single folder and no image is walked through, which is Kaggle's nesting
    (`tom_and_jerry/tom_and_jerry/<class>`).

    Args:
        root: The data's root folder.
        labelled: A file has labels, and there need be no class folders: a root without any is taken as it is, and one
            that has a train folder and no other than train, val and test has these parts, whatever is in them.

    Raises:
        FileNotFoundError: The root is missing.
        OSError: A folder cannot be looked through.
        ValueError: No class folder or a single one is found, or two folders stand for one part.
    """
    with listing(root):
        there = root.is_dir()
    if not there:
        found = "is a file" if root.exists() else "does not exist"
        raise FileNotFoundError(
            f"the data folder {root} {found}; give the one that holds the class folders as --data.root"
        )
    folder = root
    while True:
        folders = subfolders(folder)
        named = [path for path in folders if path.name.lower() in PART_FOLDERS]
        parts = {PART_FOLDERS[path.name.lower()]: path for path in named}
        alone = labelled and len(named) == len(folders) > 1
        if "train" in parts and (alone or subfolders(parts["train"])):  # else a class may well be called train
            if len(parts) < len(named):
                names = ", ".join(path.name for path in named)
                raise ValueError(f"{folder} has two folders for one part: {names}; keep one of them")
            return Layout(parts) if labelled else checked(Layout(parts), root)
        if len(folders) != 1 or has_image(folders[0]):
            break
        folder = folders[0]
    if labelled:
        return Layout({"": folder if len(folders) > 1 else root})
    if not folders:
        raise ValueError(
            f"no class folder in {root}; expected one folder a class with its images in it (or train/ val/ test/ "
            "folders of such)"
        )
    return checked(Layout({"": folder}), root)


def checked(layout: Layout, root: Path) -> Layout:
    """The layout, if it has classes to tell apart."""
    if len(layout.classes) < 2:
        found = f"only the class {layout.classes[0]}" if layout.classes else "no class"
        raise ValueError(f"{found} in {root}; a classifier needs at least two folders of images")
    return layout


def is_image(path: Path) -> bool:
    """Whether this is a file whose name says that it is an image; hidden files are none."""
    return path.suffix.lower() in FORMATS and not path.name.startswith(".") and path.is_file()


def named(path: Path) -> Path:
    """The path, if it can be written into a file.

    Raises:
        ValueError: Its name is no UTF-8, as those from old archives are.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ValueError(f"the file {str(path)!a} has a name that is no UTF-8; rename it") from None
    return path


def images_below(folder: Path) -> Iterator[Path]:
    """All image files below a folder, subfolders included, sorted."""
    return (named(folder / name) for name in image_names(folder, Counter()))


def image_names(folder: Path, left_out: Counter[str]) -> list[str]:
    """The same relative to the folder, as plain strings: a Path a file would take ten times as long, and memory.

    Links to folders are followed. What several ways lead to is listed once, since a picture under two names may train
    and validate: under the folder's own name where it lies below `folder`, else under the first link by name. A link
    to a folder around this one leads back to it and is not followed. One to another class's folder is, and gives its
    pictures both labels.

    Args:
        folder: Where to look.
        left_out: How many files are none of them is added here, by kind as in `describe_left_out`.
    """
    return sorted(walk(str(folder), left_out))  # the same order on every system


def walk(folder: str, left_out: Counter[str]) -> Iterator[str]:
    """Names of image files below a folder, in the system's order."""
    start = os.path.realpath(folder)
    seen = {str(parent) for parent in Path(start).parents}
    folders, links = [("", start)], list[tuple[str, str]]()
    while folders or links:
        if not folders:  # links last and one by one, so that it does not depend on the system which name counts
            links.sort(reverse=True)
            folders.append(links.pop())
        prefix, real = folders.pop()
        if real in seen:
            continue
        seen.add(real)
        with listing(f"{folder}/{prefix}".rstrip("/")), os.scandir(f"{folder}/{prefix}") as entries:
            for entry in entries:
                name = entry.name
                if entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110  # without a Path
                    left_out["dangling link"] += 1
                elif entry.is_dir():
                    if not name.startswith(HIDDEN):
                        if entry.is_symlink():
                            links.append((f"{prefix}{name}/", os.path.realpath(entry.path)))
                        else:
                            folders.append((f"{prefix}{name}/", os.path.join(real, name)))  # noqa: PTH118  # as above
                elif (
                    os.path.splitext(name)[1].lower() in FORMATS  # noqa: PTH122  # as above
                    and not name.startswith(".")
                    and entry.is_file()
                ):
                    yield prefix + name
                elif what := kind(name):
                    left_out[what] += 1


def kind(name: str) -> str:
    """What a file that is left out is counted as; '' where nobody would take it for a picture."""
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122  # of 100,000 files
    if name.startswith("."):
        return "hidden file" if suffix in FORMATS else ""
    return f"{suffix} file" if suffix and name.lower() not in CLUTTER else ""


def describe_left_out(left_out: Counter[str]) -> str:
    """At most three kinds: "12 .avif files, 1 hidden file, 2 dangling links and 3 more", or nothing."""
    most = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))[:3]  # the same on every system
    words = ", ".join(f"{count:,} {what}{'s' * (count > 1)}" for what, count in most)
    rest = left_out.total() - sum(count for _, count in most)
    return f"{words} and {rest:,} more" if rest else words


def find_samples(root: Path, layout: Layout, *, tell: bool = False, labelled: bool = False) -> list[Sample]:
    """Every image of every class, sorted by part, class and path.

    Args:
        root: The data's root folder.
        layout: Its class folders.
        tell: Log in one line how many other files there are that could be meant for pictures.
        labelled: A file has labels, and a folder without an image is no class.

    Raises:
        OSError: A folder cannot be looked through.
        ValueError: A class has no image at all.
    """
    left_out: Counter[str] = Counter()
    folders = [(part, folder) for part, parent in layout.parts.items() for folder in subfolders(parent)]
    samples = []
    for part, folder in folders:
        prefix = folder.relative_to(root).as_posix()
        for name in image_names(folder, left_out):
            samples.append(Sample(f"{prefix}/{name}", folder.name, part))
            if not name.isascii():
                named(folder / name)
    empty = sorted({folder.name for _, folder in folders} - {sample.label for sample in samples})
    if empty and not labelled:
        words = [name + other_files(folder for _, folder in folders if folder.name == name) for name in empty[:5]]
        rest = f" and {len(empty) - 5} more" if len(empty) > 5 else ""
        raise ValueError(
            f"no image in {root} for the class{'es' * (len(empty) > 1)} {', '.join(words)}{rest} (looked for "
            f"{', '.join(FORMATS)}); put images into the folder, or take it away"
        )
    if tell and left_out:
        log.info("left out: %s", describe_left_out(left_out))
    return samples


def other_files(folders: Iterable[Path]) -> str:
    """What folders without an image hold instead: " (12 .heic files, 1 .txt file)", or nothing."""
    left_out: Counter[str] = Counter()
    for folder in folders:
        image_names(folder, left_out)
    words = describe_left_out(left_out)
    return f" ({words})" if words else ""
