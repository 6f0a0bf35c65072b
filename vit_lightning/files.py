"""Files that nobody ever sees half-written; no torch in here."""

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A place beside `path` to write to; when the block is through, what was written takes the name in one step.

    Whenever the process dies, the name stands for the old file or for the whole new one. The temporary name is no
    other process's, so that two that write at once do not mix.

    Raises:
        OSError: The folder cannot be written, or the disk is full; then the old file is as it was.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # else a power cut may keep the name and lose the bytes
        temporary.replace(path)
    finally:
        with suppress(OSError):  # it has its new name already, or there is another error to be told
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8 as `replacing` does.

    Raises:
        OSError: The folder cannot be written, or the disk is full; then the old file is as it was.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def kept_in(folder: Path, what: str, instead: str) -> Iterator[None]:
    """Says in one line what to do where a folder cannot be written, without the temporary names of the system's words.

    Args:
        folder: Where to.
        what: What is written.
        instead: What to do.

    Raises:
        ValueError: The folder cannot be made or written, the disk is full or knows no locks.
    """
    try:
        yield
    except (OSError, NotImplementedError) as error:  # the latter from a disk without locks
        why = (error.strerror if isinstance(error, OSError) else "") or error
        raise ValueError(f"{what} cannot be kept in {folder} ({why}); {instead}") from error


def check_folder(folder: Path, what: str, instead: str) -> None:
    """Tries whether a folder can be made and written, before something is computed that is to be kept there.

    Args:
        folder: It need not be there yet, and is not made.
        what: That which is to be kept, for the message.
        instead: What to do where it cannot be.

    Raises:
        ValueError: The folder cannot be made or written.
    """
    with kept_in(folder, what, instead):
        nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        with tempfile.TemporaryFile(dir=nearest):
            pass
