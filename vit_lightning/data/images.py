"""From a picture file to upright 8-bit RGB, whatever its format and mode; no torch in here."""

import errno
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from vit_lightning.data.index import FORMATS

#: What Pillow may try: its other readers differ from one installation to the next, and one starts Ghostscript.
READERS = tuple(sorted(set(FORMATS.values())))

#: How ISO media files, which Pillow reads in some installations only, name themselves.
BRANDS = {b"avif": "AVIF", b"avis": "AVIF"} | dict.fromkeys((b"heic", b"heix", b"hevc", b"mif1", b"msf1"), "HEIC")

Read = TypeVar("Read")

# Pillow warns of large pictures (what is too large is an error), of broken EXIF data and the like without naming the
# file, and logs why a reader gave up. A filter for good, as warnings.catch_warnings does not go with threads.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())


def load_image(path: Path | str) -> Image.Image:
    """Opens a picture as upright 8-bit RGB; of several frames or pages the first.

    - Transparent pixels are laid over white: the colour stored under them is arbitrary, and often black.
    - 16-bit values are divided by 256. Floating-point ones count from 0 to 1, or from 0 to 255 where one exceeds 1.
    - Colour profiles are ignored.

    Raises:
        FileNotFoundError: The file is missing.
        OSError: It is no readable picture; the message names it and says why.
    """
    with naming(path):
        return opened(path, upright)


def check_picture(path: Path | str) -> str:
    """Reads a picture to its end, a JPEG at an eighth of its size: twice as quick, and as sure to find a missing end.

    Returns:
        The format of its content: BMP, GIF, JPEG, PNG, TIFF or WEBP.

    Raises:
        OSError: It is no readable picture. With an `errno` it comes from the system, otherwise from the content.
    """

    def read(image: Image.Image) -> str:
        content = "JPEG" if image.format == "MPO" else str(image.format)  # a camera's JPEG with more behind it
        image.draft(None, (1, 1))
        upright(image)
        return content

    return opened(path, read)


def typical_size(paths: Sequence[Path], most: int = 200) -> tuple[int, int] | None:
    """Height and width that pictures have, as they are looked at: the medians, by a number of them from end to end.

    Where the shapes are mixed, so that of ten the second widest is half as wide again as the second narrowest, it is a
    square of the usual area. None where not one can be read.
    """
    sizes = []
    for path in paths[:: max(1, len(paths) // most)]:
        with suppress(OSError):  # whoever trains on them says what cannot be read
            sizes.append(opened(path, upright_size))
    if not sizes:
        return None
    heights, widths = np.array(sizes, dtype=float).T
    narrow, wide = np.quantile(widths / heights, (0.1, 0.9))
    if wide > 1.5 * narrow:
        heights = widths = np.sqrt(heights * widths)
    return int(np.median(heights)), int(np.median(widths))


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Height and width after it is turned as its EXIF data say."""
    turned = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)  # on its side
    return image.size if turned else (image.height, image.width)


def opened(path: Path | str | BinaryIO, read: Callable[[Image.Image], Read]) -> Read:
    """What `read` makes of an opened picture, from a file or a stream of its bytes.

    Raises:
        OSError: It is no readable picture. With an `errno` it comes from the system, otherwise from the content.
    """
    try:
        with Image.open(path, formats=READERS) as image:
            return read(image)
    except Exception as error:  # Pillow's decoders raise what they like
        # A head that sends the reader before the file's begin is the content's fault.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise OSError(explain(path, error)) from error


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Puts the file's name before an error of its content; the system's own errors have it already."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            raise
        raise OSError(f"{path} cannot be read: {error}; mend it or take it away") from error


def upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF data say, in 8-bit RGB."""
    ImageOps.exif_transpose(image, in_place=True)
    return to_rgb(image)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode as RGB, without Pillow's clipping of values beyond 255.

    Raises:
        ValueError: Values of no known range.
    """
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        low, high = values.min(), values.max()
        if image.mode == "F" and 0 <= low <= high <= 255:
            values = np.rint(values * (255 if high <= 1 else 1))
        elif image.mode != "F" and 0 <= low <= high <= 65535:
            values = values >> 8  # as Pillow does with 16-bit colours
        else:
            known = "0 to 1 or 0 to 255" if image.mode == "F" else "0 to 65535"
            raise ValueError(f"its values go from {low:g} to {high:g}; expected {known}")
        image = Image.fromarray(values.astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def explain(path: Path | str | BinaryIO, error: Exception) -> str:
    """Why a file could not be decoded, in a few words."""
    if isinstance(error, OSError) and error.errno == errno.EINVAL:
        return "it is damaged"
    if not isinstance(error, UnidentifiedImageError):
        return " ".join(str(error).split()).rstrip(".") or type(error).__name__
    with Path(path).open("rb") if isinstance(path, Path | str) else nullcontext(path) as file:
        file.seek(0)
        head = file.read(12)
    if not head:
        return "the file is empty"
    if head[4:8] == b"ftyp" and head[8:] in BRANDS:
        return f"it is a picture in {BRANDS[head[8:]]}, which is not read here; convert it to JPEG or PNG"
    return f"its content is no {', '.join(READERS[:-1])} or {READERS[-1]} picture"
