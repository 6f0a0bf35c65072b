"""Opens every picture before anything is trained on it, and remembers what it saw; no torch in here."""

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import PIL

from vit_lightning.data.images import check_picture
from vit_lightning.data.index import FORMATS
from vit_lightning.files import cell, cell_of_path, csv_line, write_text
from vit_lightning.progress import track

log = logging.getLogger(__name__)

#: What another reader found says nothing of this one; the first number goes up with changes of `check_picture`.
READER = f"1, Pillow {PIL.__version__}"

#: So many pictures are opened while one waits without being told.
UNTOLD = 500

#: Size in bytes, time of change in nanoseconds, format of the content, and why it cannot be read, or ''.
Entry = tuple[int, int, str, str]

#: Size and time of a file that the system keeps from being looked at: no other's, so that it is looked at again.
UNKNOWN = (-1, -1)


@dataclass(frozen=True)
class Scan:
    """What `scan_pictures` found, by path relative to the root."""

    #: Files that are no readable pictures, with the reason.
    unreadable: dict[str, str] = field(default_factory=dict)
    #: Readable pictures whose content is of another format than their name says, with that format.
    misnamed: dict[str, str] = field(default_factory=dict)


def scan_pictures(root: Path, paths: Sequence[str], cache_dir: Path) -> Scan:
    """Opens the pictures that are new or changed, in threads, and recalls what earlier scans saw of the others.

    What was seen is kept also when the scan is broken off; of two processes that scan at once, one may have the other
    look again, but neither ever reads half a memory.

    Args:
        root: The data's root folder.
        paths: Files relative to it.
        cache_dir: Where the memory lies, a file a root in `scans/`.
    """
    memory = memory_file(cache_dir, root)
    known = read_memory(memory)
    found: dict[str, Entry] = {}
    todo = [path for path in paths if path not in known or known[path][:2] != stamp(f"{root}/{path}")]
    if todo:
        text = f"looking whether {len(todo):,} pictures can be read (done once for every file)"
        # Pillow's decoders let other threads run meanwhile; one more than cores, as the disk has to be waited for.
        threads = min(8, 1 + (os.cpu_count() or 1))
        try:
            with (
                track(text, total=len(todo)) if len(todo) > UNTOLD else nullcontext(lambda _: None) as advance,
                ThreadPoolExecutor(threads) as executor,
            ):
                for path, entry in zip(todo, executor.map(lambda path: look(root / path), todo), strict=True):
                    found[path] = entry
                    advance(1)
        finally:
            write_memory(memory, found)
    entries = known | found
    unreadable = {path: reason for path in paths if (reason := entries[path][3])}
    misnamed = {
        path: content
        for path in paths
        if (content := entries[path][2]) and content != FORMATS.get(f".{path.rpartition('.')[2].lower()}", content)
    }
    return Scan(unreadable, misnamed)


def look(path: Path) -> Entry:
    """Opens one picture. What the system prevents, by a missing permission for example, may be mended without trace."""
    size, changed = stamp(path)  # before reading: what changes meanwhile is looked at again
    try:
        return size, changed, check_picture(path), ""
    except OSError as error:
        return (size, changed, "", str(error)) if error.errno is None else (*UNKNOWN, "", str(error.strerror))


def stamp(path: Path | str) -> tuple[int, int]:
    """Size and time of the last change."""
    try:
        status = os.stat(path)  # noqa: PTH116  # of many files, without a Path each
    except OSError:
        return UNKNOWN
    return status.st_size, status.st_mtime_ns


def memory_file(cache_dir: Path, root: Path) -> Path:
    """The memory of a root."""
    return cache_dir / "scans" / f"{folder_name(root)}.json"


def folder_name(root: Path) -> str:
    """What belongs to a root in the cache folder: its name, for people, and a digest of its whole path."""
    root = root.resolve()
    return f"{root.name}-{hashlib.sha256(os.fsencode(root)).hexdigest()[:12]}"


def read_memory(memory: Path) -> dict[str, Entry]:
    """What earlier scans saw; nothing where there is no memory, or none that can be used."""
    try:
        content = json.loads(memory.read_text(encoding="utf-8"))
        if content["reader"] != READER:
            return {}
        return {
            path: (int(size), int(changed), str(form), str(reason))
            for path, (size, changed, form, reason) in content["files"].items()
        }
    except Exception:  # whatever stands in it instead
        return {}


def write_memory(memory: Path, found: dict[str, Entry]) -> None:
    """Adds to the memory what a scan found; a cache folder that cannot be written costs time only."""
    text = json.dumps({"reader": READER, "files": read_memory(memory) | found})
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_text(memory, text)
    except OSError as error:
        log.warning(
            "what the look through the pictures gave cannot be kept for next time in %s (%s); choose another folder "
            "with --data.cache_dir",
            memory.parent,
            error.strerror,
        )


def write_unreadable(path: Path, unreadable: dict[str, str], *, append: bool = False) -> None:
    """Writes `path,reason`, a line a file, or adds lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a" if append else "w", newline="", encoding="utf-8") as file:
        if not append:
            file.write("path,reason\n")
        file.writelines(csv_line((cell_of_path(name), cell(reason))) for name, reason in unreadable.items())


def first_few(unreadable: dict[str, str], count: int = 3) -> str:
    """The first unreadable files in words: "a/1.jpg (the file is empty), a/2.jpg (...), ..."."""
    words = [f"{path} ({reason})" for path, reason in list(unreadable.items())[:count]]
    return ", ".join(words + ["..."] * (len(unreadable) > count))
