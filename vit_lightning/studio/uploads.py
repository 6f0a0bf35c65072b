"""Pictures that a browser sends: bounded in bytes, pixels and number before anything is decoded."""

import io
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from PIL import Image

from vit_lightning.commands.studio import UPLOAD_MB
from vit_lightning.data.images import READERS
from vit_lightning.progress import legible

#: Bounds of one picture, and of what is sent together.
PIXELS, PICTURES, TOGETHER = 40_000_000, 64, 200_000_000


class Sent(Protocol):
    """What the browser sends, as Streamlit gives it."""

    @property
    def name(self) -> str:
        """The file's name there: words of a stranger, never a path here."""

    @property
    def size(self) -> int:
        """Bytes."""

    def getvalue(self) -> bytes:
        """The content."""


def why_not(sent: Sent) -> str | None:
    """Why a picture is refused, by its size and its head alone; None where it is not."""
    if sent.size > UPLOAD_MB * 1_000_000:
        return f"it has {sent.size / 1e6:.0f} MB; {UPLOAD_MB} MB are the most"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(sent.getvalue()), formats=READERS) as image:
                width, height = image.size
    except Image.DecompressionBombError:
        return "its head announces more pixels than any picture has"
    except Exception:  # Pillow's readers raise what they like
        return "it is no picture that can be read"
    if width * height > PIXELS:
        return f"it has {width * height / 1e6:.0f} million pixels; {PIXELS // 1_000_000} million are the most"
    return None


def is_bounded(path: Path) -> bool:
    """Whether a picture's head announces no more than what may be decoded: a run's folder may come from elsewhere."""
    try:
        with Image.open(path, formats=READERS) as image:
            return image.width * image.height <= PIXELS
    except Exception:  # as above
        return False


@contextmanager
def kept(sent: Sequence[Sent]) -> Iterator[tuple[list[tuple[str, Path]], list[str]]]:
    """Puts pictures into a folder that goes away again, under names of our own.

    Yields:
        Name and file of each picture that may be looked at, and a line for each that is refused.
    """
    taken: list[tuple[str, Path]] = []
    refused: list[str] = []
    together = 0
    with tempfile.TemporaryDirectory(prefix="vit_lightning-") as folder:
        for index, each in enumerate(sent):
            name, reason = legible(each.name), why_not(each)
            if reason is None and (len(taken) == PICTURES or together + each.size > TOGETHER):
                reason = f"{PICTURES} pictures of {TOGETHER // 1_000_000} MB together are the most at once"
            if reason is not None:
                refused.append(f"{name}: {reason}")
                continue
            together += each.size
            path = Path(folder) / f"{index:04}"
            path.write_bytes(each.getvalue())
            taken.append((name, path))
        yield taken, refused
