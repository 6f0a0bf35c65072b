"""Files that nobody ever sees half-written; no torch in here."""

import csv
import hashlib
import io
import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: What makes a spreadsheet compute a cell that begins with it, in full width, too.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


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


def sha256_of(path: Path) -> str:
    """Of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def expanded(path: Path | str) -> Path:
    """A path with the home folder for `~`; of a user whom the system does not know it is a name like any other."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def csv_line(row: Iterable[object]) -> str:
    """A line of a CSV file that ends with a newline."""
    text = io.StringIO()
    # With this ending Python quotes a carriage return in a file's name, which would otherwise end the line for readers.
    csv.writer(text, lineterminator="\r\n").writerow(row)
    return text.getvalue().removesuffix("\r\n") + "\n"


def cell_of_path(path: str) -> str:
    """A relative path for a CSV that people open, too: `=x.jpg` would be computed, `./=x.jpg` is the same file."""
    return f"./{path}" if path.startswith(FORMULA) else path


def cell(name: str) -> str:
    """A name for such a CSV: an apostrophe before `=x` has a spreadsheet take it as text. `read_cell` takes it away."""
    return f"'{name}" if name.lstrip("'").startswith(FORMULA) else name


def read_cell(text: str) -> str:
    """The name that `cell` made a text of; any other text is its own."""
    return text[1:] if text.startswith("'") and text.lstrip("'").startswith(FORMULA) else text


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
