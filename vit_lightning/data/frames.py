"""Pictures as bytes at the size that training needs: decoded each time, or once and kept."""

import json
import logging
import os
import shutil
import sys
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from io import RawIOBase
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import PIL
import torch
import torchvision
from filelock import FileLock, Timeout
from PIL import ExifTags, Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from vit_lightning.data.images import naming, opened, upright
from vit_lightning.data.scan import folder_name, stamp
from vit_lightning.data.transforms import FrameSize
from vit_lightning.files import kept_in, write_text
from vit_lightning.progress import track

log = logging.getLogger(__name__)

Cache = Literal["disk", "memory", "none"]

#: From an upright picture's height and width to those of its frame.
Sizing = Callable[[int, int], tuple[int, int]]

# Said of every picture, and nothing that a user could do about; `find_decoder` is ready. A filter for good, as
# warnings.catch_warnings does not go with threads.
warnings.filterwarnings("ignore", message="The image decoding and encoding capabilities of TorchVision are deprecated")


def find_decoder() -> tuple[Callable[[Tensor], Tensor] | None, str]:
    """The quickest decoder from a JPEG's bytes (n,) to its pixels (3, height, width).

    Returns:
        torchvision's while it has one, torchcodec's where that is installed (the extra `video`), or None: Pillow's has
        to do. And what the cache's version names it by: torchvision's by nothing, as ever.
    """
    with suppress(ImportError):  # torchvision means to drop it
        from torchvision.io import decode_jpeg

        return decode_jpeg, ""  # type: ignore[return-value]  # of one picture
    with suppress(Exception):  # it is not there or too old, or finds no library of the system's that it needs
        import torchcodec
        from torchcodec.decoders import decode_jpeg as next_decode_jpeg

        return next_decode_jpeg, f", torchcodec {torchcodec.__version__}"
    return None, ", JPEGs by Pillow"


decode_jpeg, DECODER = find_decoder()

#: What another version decoded is not used again: it may differ in a bit. The first number is that of this module.
VERSION = f"3, Pillow {PIL.__version__}, torchvision {torchvision.__version__}{DECODER}"

#: EXIF's orientations of pictures that are stored lying: height and width change places.
LYING = range(5, 9)

#: So many pictures are decoded at a time; of fewer nobody is told.
CHUNK = 256

#: Seconds after which what was decoded is safe from a power cut.
BETWEEN = 20.0

#: By path relative to the root: a picture's size and time of change, and its frame's first byte, height and width.
Rows = dict[str, list[int]]

ELSEWHERE = "choose another folder with --data.cache_dir, or decode in every epoch with --data.cache none"


class Frames(Protocol):
    """The frames of some pictures, in their order: bytes (height, width, 3) each."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Tensor: ...


def load_frame(path: Path | str, size: Sizing) -> Tensor:
    """Opens a picture as `load_image` does and resizes it, without cropping: bytes (height, width, 3).

    Raises:
        FileNotFoundError: The file is missing.
        OSError: It is no readable picture; the message names it and says why.
    """
    with naming(path):
        return read_frame(path, size)


def read_frame(path: Path | str, size: Sizing) -> Tensor:
    """`load_frame`, with messages that do not name the file.

    Raises:
        OSError: It is no readable picture. With an `errno` it comes from the system, otherwise from the content.
    """

    def read(image: Image.Image) -> Tensor:
        pixels: Tensor | None = None
        if image.format == "JPEG":
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            whole, lying = image.size, orientation in LYING
            height, width = size(*(whole if lying else whole[::-1]))
            # One that is at least twice too large for that is decoded at a half, a quarter or an eighth, in less time.
            spare = size.spare if isinstance(size, FrameSize) else 1
            image.draft(None, (spare * height, spare * width) if lying else (spare * width, spare * height))
            if image.mode == "RGB" and orientation == 1 and image.size == whole and decode_jpeg is not None:
                # The same bytes in two thirds of the time; Pillow reads more, and says what is wrong with the rest.
                with suppress(RuntimeError):
                    pixels = decode_jpeg(torch.from_numpy(np.fromfile(path, dtype=np.uint8)))
        if pixels is None:
            picture = upright(image)
            if image.format != "JPEG":
                height, width = size(picture.height, picture.width)
            pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
        resized: Tensor = functional.resize(pixels, [height, width], antialias=True)
        return resized.permute(1, 2, 0).contiguous()

    return opened(path, read)


class DecodedFrames:
    """Frames decoded from their files whenever they are asked for.

    Args:
        root: The data's root folder.
        paths: Files relative to it.
        size: Of the frames.
    """

    def __init__(self, root: Path, paths: Sequence[str], size: Sizing) -> None:
        self.root = root
        self.paths = paths
        self.size = size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        return load_frame(self.root / self.paths[index], self.size)


class KeptFrames:
    """Frames one after another, in memory or in a file that is mapped: loader processes share one copy.

    Args:
        source: The bytes of all frames, or the file with them.
        places: Where each begins, its height and its width, (n, 3).
    """

    def __init__(self, source: Path | Tensor, places: npt.NDArray[np.int64]) -> None:
        self.source = source
        self.places = places
        self.bytes = source if isinstance(source, Tensor) else mapped(source)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Tensor:
        begin, height, width = self.places[index].tolist()
        return self.bytes[begin : begin + 3 * height * width].view(height, width, 3)

    def __reduce__(self) -> tuple[type, tuple[Path | Tensor, npt.NDArray[np.int64]]]:
        return KeptFrames, (self.source, self.places)  # another process maps the file for itself


def mapped(file: Path) -> Tensor:
    """The bytes of a file, to be read only: larger ones than the memory are no trouble."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.asarray(np.memmap(file, dtype=np.uint8, mode="r")))


def find_frames(
    root: Path, paths: Sequence[str], size: FrameSize, *, cache: Cache, cache_dir: Path, use: str = "for the model"
) -> Frames:
    """The frames of pictures, from the kind of cache that is wanted.

    Args:
        root: The data's root folder.
        paths: Files relative to it.
        size: Of the frames.
        cache: `disk` decodes what is new or changed into a file below `cache_dir`, `memory` everything into this
            process's memory, `none` each picture whenever it is asked for.
        cache_dir: What is kept lies in its `frames/`.
        use: What they are for, told while one waits: a first `fit` decodes most pictures at two sizes.

    Raises:
        OSError: A picture cannot be read.
        ValueError: The cache folder cannot be written, or the disk or the memory has not enough room.
    """
    if cache == "none":
        return DecodedFrames(root, paths, size)
    if cache == "disk":
        return FrameFile(root, size, cache_dir).frames(paths, use)
    kept = np.empty(0, dtype=np.uint8)
    places: list[tuple[int, int, int]] = []
    for chunk in decode_all([root / path for path in paths], size, use):
        if not places:
            check_room(chunk, len(paths), physical_memory(), "this machine has", "use --data.cache disk, or none")
        for frame in chunk:
            height, width, _ = frame.shape
            places.append((kept.size, height, width))
            kept.resize(kept.size + frame.numel(), refcheck=False)  # in place, where the system can
            kept[-frame.numel() :] = frame.flatten().numpy()
    return KeptFrames(torch.from_numpy(kept), np.array(places, dtype=np.int64))


class FrameFile:
    """What is kept of one root at one size: a file of frames that only grows, and a table of what lies where in it.

    The table is exchanged as a whole once the frames are on the disk, so that whoever reads it sees all of them or
    none. Nothing is ever written over: a picture that changed leaves its old frame behind, and when more than half of
    the file is such, a new one is begun.

    Args:
        root: The data's root folder.
        size: Of the frames.
        cache_dir: Where it lies: in `frames/`, a folder a root.
    """

    def __init__(self, root: Path, size: FrameSize, cache_dir: Path) -> None:
        self.root = root
        self.size = size
        self.table = cache_dir / "frames" / folder_name(root) / f"{size}.json"

    def frames(self, paths: Sequence[str], use: str) -> KeptFrames:
        """The frames of these pictures; those that are new or changed are decoded, and one is told what for."""
        stamps = [stamp(f"{self.root}/{path}") for path in paths]
        file, rows = self.read()
        if self.missing(paths, stamps, rows):
            lock = FileLock(self.table.with_suffix(".lock"))  # of several processes one decodes
            with self.writing():
                self.table.parent.mkdir(parents=True, exist_ok=True)
                try:
                    lock.acquire(timeout=1)
                except Timeout:
                    log.info("waiting for another process, which is decoding pictures of %s", self.root)
                    lock.acquire()
            try:
                file, rows = self.add(paths, stamps, use)
            finally:
                lock.release()
        return KeptFrames(file, np.array([rows[path][2:] for path in paths], dtype=np.int64))

    def writing(self) -> AbstractContextManager[None]:
        """Says what to do where the folder cannot be written."""
        return kept_in(self.table.parent, "decoded pictures", ELSEWHERE)

    def read(self) -> tuple[Path, Rows]:
        """The file of frames and its rows; a new name and none where there is no table, or none that can be used."""
        with suppress(Exception):  # whatever stands there instead
            content = json.loads(self.table.read_text(encoding="utf-8"))
            file, rows = self.table.with_name(content["file"]), content["frames"]
            end = max((begin + 3 * height * width for _, _, begin, height, width in rows.values()), default=0)
            if content["version"] == VERSION and file.stat().st_size >= end:
                return file, rows
        return self.new_file(), {}

    def new_file(self) -> Path:
        """A name that no file has had."""
        return self.table.with_name(f"{self.size}-{uuid.uuid4().hex[:8]}.frames")

    def missing(self, paths: Sequence[str], stamps: Sequence[tuple[int, int]], rows: Rows) -> list[int]:
        """Which of the pictures have no frame, or one of another state of theirs."""
        return [index for index, path in enumerate(paths) if tuple(rows.get(path, ())[:2]) != stamps[index]]

    def add(self, paths: Sequence[str], stamps: Sequence[tuple[int, int]], use: str) -> tuple[Path, Rows]:
        """Decodes what is missing; what there is when an error or Ctrl-C ends it is kept."""
        file, rows = self.read()
        rows = {path: row for path, row in rows.items() if tuple(row[:2]) == stamp(f"{self.root}/{path}")}
        end = file.stat().st_size if file.exists() else 0
        if sum(3 * height * width for _, _, _, height, width in rows.values()) < end / 2:
            file, rows, end = self.new_file(), {}, 0
        self.remove_others(file)
        todo = self.missing(paths, stamps, rows)
        done, saved, published = 0, end, time.monotonic()
        with self.writing():
            out = file.open("ab", buffering=0)
        try:
            for chunk in decode_all([self.root / paths[index] for index in todo], self.size, use):
                if not done:
                    free, where = shutil.disk_usage(file.parent).free, f"the disk of {file.parent} has"
                    check_room(chunk, len(todo), free, where, ELSEWHERE)
                with self.writing():
                    for index, frame in zip(todo[done:], chunk, strict=False):
                        write_all(out, frame)
                        height, width, _ = frame.shape
                        rows[paths[index]] = [*stamps[index], end, height, width]
                        end += frame.numel()
                    done += len(chunk)
                    if done == len(todo) or time.monotonic() - published > BETWEEN:
                        self.publish(file, rows)
                        saved, published = end, time.monotonic()
        except ValueError:  # there is no room: it is given back, but for what others may look at
            with suppress(OSError):
                out.truncate(saved)
            raise
        except BaseException:
            with suppress(OSError):
                self.publish(file, rows)
            raise
        finally:
            out.close()
        return file, rows

    def publish(self, file: Path, rows: Rows) -> None:
        """Exchanges the table, once all frames are on the disk."""
        with file.open("rb+") as out:
            os.fsync(out.fileno())
        write_text(self.table, json.dumps({"version": VERSION, "file": file.name, "frames": rows}))

    def remove_others(self, file: Path) -> None:
        """Removes files of frames that no table names any more."""
        for old in file.parent.glob(f"{self.size}-*.frames"):
            if old != file:
                with suppress(OSError):  # a system may keep what is mapped
                    old.unlink()


def write_all(out: RawIOBase, frame: Tensor) -> None:
    """Writes a frame's bytes, however few the system takes at a time."""
    rest = frame.numpy().data.cast("B")
    while rest:
        rest = rest[out.write(rest) or 0 :]


def decode_all(files: Sequence[Path], size: Sizing, use: str) -> Iterator[list[Tensor]]:
    """Decodes pictures in threads, `CHUNK` at a time, and shows how far it is."""
    text = f"decoding {len(files):,} pictures {use}, once"
    # The decoders let other threads run meanwhile; one more than cores, as the disk has to be waited for.
    threads = min(16, 1 + (os.cpu_count() or 1))
    with (
        track(text, total=len(files)) if len(files) > CHUNK else nullcontext(lambda _: None) as advance,
        ThreadPoolExecutor(threads) as executor,
    ):
        for begin in range(0, len(files), CHUNK):
            yield list(executor.map(lambda file: load_frame(file, size), files[begin : begin + CHUNK]))
            advance(CHUNK)


def check_room(chunk: Sequence[Tensor], count: int, room: int, where: str, instead: str) -> None:
    """Refuses what will not fit, by the size of the first few frames.

    Raises:
        ValueError: `count` frames like these take more than `room` bytes.
    """
    needed = sum(frame.numel() for frame in chunk) / len(chunk) * count
    if needed > room:
        raise ValueError(f"the decoded pictures take {needed / 1e9:.1f} GB, but {where} {room / 1e9:.1f} GB; {instead}")


def physical_memory() -> int:
    """Bytes of memory of this machine, or as many as there can be where it does not tell."""
    names = getattr(os, "sysconf_names", {})
    if {"SC_PAGE_SIZE", "SC_PHYS_PAGES"} <= names.keys():
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return sys.maxsize
