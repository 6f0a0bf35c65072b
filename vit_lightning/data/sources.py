"""Where the images come from: a folder, Kaggle's Tom & Jerry set, or the drawn demo."""

import tempfile
from pathlib import Path
from typing import Literal

from filelock import FileLock

from vit_lightning.data import demo, kaggle
from vit_lightning.data.images import typical_size
from vit_lightning.data.index import find_layout, find_samples
from vit_lightning.data.labels import classes_of, labelled_samples, relabelled
from vit_lightning.files import expanded, kept_in
from vit_lightning.progress import track

Source = Literal["kaggle", "demo", "folder"]

NO_ROOT = "data.source is folder, but no folder is given: add --data.root PATH"


def find_classes(source: Source, root: str | None, labels: str | None = None, cache_dir: Path = Path()) -> list[str]:
    """The classes in the order of the model's outputs, without downloading, drawing or opening anything.

    With a file of labels all images are listed, which may have to be downloaded or drawn first.

    Raises:
        FileNotFoundError: The root, or the file of labels, is missing.
        ValueError: No root for a folder, or no class folders in it; or a broken file of labels.
    """
    if labels is not None:
        folder = locate(source, None if root is None else expanded(root), cache_dir)
        _, samples, table = labelled_samples(folder, labels)
        return classes_of(relabelled(samples, table))
    if root is not None:
        return find_layout(expanded(root)).classes
    if source == "folder":
        raise ValueError(NO_ROOT)
    return list(kaggle.CLASSES)  # the demo's classes are the same


def picture_size(
    source: Source, root: str | None, cache_dir: Path, labels: str | None = None
) -> tuple[int, int] | None:
    """Height and width that the pictures typically have, which may have to be downloaded or drawn first.

    None where none can be read.

    Raises:
        ValueError: As in `locate`, or no class folders.
        OSError: They cannot be downloaded, drawn or listed.
    """
    folder = locate(source, None if root is None else expanded(root), cache_dir)
    samples = labelled_samples(folder, labels)[1] if labels else find_samples(folder, find_layout(folder))
    return typical_size([folder / sample.path for sample in samples])


def locate(source: Source, root: Path | None, cache_dir: Path) -> Path:
    """The data's root, downloaded or drawn into the cache folder where it has to be; a root given wins.

    Raises:
        ValueError: No root for a folder.
        OSError: It cannot be downloaded or drawn.
    """
    if root is not None:
        return root
    if source == "folder":
        raise ValueError(NO_ROOT)
    if source == "kaggle":
        return kaggle.download(cache_dir)
    with kept_in(cache_dir, "the drawn frames", "choose another folder with --data.cache_dir"):
        draw_demo_once(demo_root(cache_dir))
    return demo_root(cache_dir)


def demo_root(cache_dir: Path) -> Path:
    """Where the drawn frames lie."""
    return cache_dir / f"demo-{demo.VERSION}"


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
