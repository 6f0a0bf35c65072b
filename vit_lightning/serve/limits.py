"""What may be sent: bytes, pictures, pixels and time; and a request's body within them."""

import asyncio
import io
from collections.abc import AsyncGenerator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
from PIL import Image
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from vit_lightning.data.images import opened, upright
from vit_lightning.serve.model import Bytes

#: Pixels of a side at most: a model's weights for resizing grow with it.
SIDE = 20_000

#: A picture of more pixels is a large one: they are decoded and answered one at a time.
LARGE = 4_000_000

#: So many requests of the largest size are held in memory at once.
LARGEST_AT_ONCE = 8

#: What is sent beyond the limit is read to its end, up to so many times the limit, for the answer to be heard.
BEYOND = 4


@dataclass(frozen=True)
class Limits:
    """What a request may be.

    Args:
        megabytes: Of its body.
        megapixels: Of a picture.
        files: Pictures of it.
        seconds: From its first line to its answer.
    """

    megabytes: float = 20
    megapixels: float = 24
    files: int = 32
    seconds: float = 30

    @property
    def bytes(self) -> int:
        """Of a body at most."""
        return int(self.megabytes * 1_000_000)


class RefusedError(Exception):
    """A request that is answered with a status and a line.

    Args:
        status: Of the answer.
        line: What was found, what was expected.
        retry: Seconds after which it may be tried again.
    """

    def __init__(self, status: int, line: str, retry: int | None = None) -> None:
        super().__init__(line)
        self.status = status
        self.line = line
        self.retry = retry


class UnreadableError(RefusedError):
    """A picture that is none, or too large."""


class BombError(Exception):
    """A picture's head announces more than may be decoded."""


@dataclass(frozen=True)
class Sent:
    """A picture as it was sent.

    Args:
        content: Its bytes.
        name: As the sender calls it; None of a body that is one picture.
    """

    content: bytes
    name: str | None = None


class Room:
    """Bytes of bodies that are in memory: more are refused until some are answered.

    Args:
        limits: Of a request.
    """

    def __init__(self, limits: Limits) -> None:
        self.most = LARGEST_AT_ONCE * limits.bytes
        self.taken = 0

    @contextmanager
    def of_request(self) -> Iterator["Share"]:
        """What one request takes; it is given back in the end."""
        share = Share(self)
        try:
            yield share
        finally:
            self.taken -= share.taken


@dataclass
class Share:
    """What a request has of the room."""

    room: Room
    taken: int = 0

    def take(self, count: int) -> None:
        """Takes bytes.

        Raises:
            RefusedError: There is no room.
        """
        if self.room.taken + count > self.room.most:
            raise RefusedError(429, "too much is being sent at once; try again in a moment", retry=1)
        self.taken += count
        self.room.taken += count


async def body_of(request: Request, limits: Limits, share: Share) -> AsyncGenerator[bytes, None]:
    """The body, piece by piece.

    Raises:
        RefusedError: It has more bytes than a body may have, or there is no room for it.
    """
    size = 0
    refusal = RefusedError(413, f"the request is too large; {limits.megabytes:g} MB are the most")
    announced = request.headers.get("content-length", "")
    large = len(announced) > 15 or (announced.isdigit() and int(announced) > limits.bytes)
    if large and "expect" in request.headers:  # nothing of it has been sent yet
        raise refusal
    async for piece in request.stream():
        size += len(piece)
        large = large or size > limits.bytes
        if not large:
            share.take(len(piece))
            yield piece
        elif size > BEYOND * limits.bytes:
            break
    if large:
        raise refusal


async def pictures_of(request: Request, limits: Limits, share: Share) -> list[Sent]:
    """The pictures of a request: each file of a form, or the whole body.

    Raises:
        RefusedError: It is none that can be read, has too many pictures or bytes, or none.
        TimeoutError: It is sent too slowly.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RefusedError(415, "a compressed body is not read; send the picture as it is")
    async with asyncio.timeout(limits.seconds):
        pieces = body_of(request, limits, share)
        if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            sent = await files_of(request, limits, pieces)
        else:
            sent = [Sent(b"".join([piece async for piece in pieces]))]
    if not sent:
        raise RefusedError(422, "the form holds no file; send one or more, as in curl -F file=@a.jpg")
    if sent[0].name is None and not sent[0].content:
        raise RefusedError(422, "the body is empty; send a picture, as in curl --data-binary @a.jpg")
    return sent


async def files_of(request: Request, limits: Limits, pieces: AsyncGenerator[bytes, None]) -> list[Sent]:
    """The files of a form, whatever its fields are called.

    Raises:
        RefusedError: It is no form, or holds too many files.
    """
    parser = MultiPartParser(request.headers, pieces, max_files=limits.files, max_fields=16)
    parser.spool_max_size = limits.bytes  # nothing touches the disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise RefusedError(413, f"the form holds too many files; {limits.files} are the most") from error
        raise RefusedError(400, f"the form cannot be read ({error.message.rstrip('.')})") from error
    files = [each for _, each in form.multi_items() if not isinstance(each, str)]
    try:
        return [Sent(await file.read(), file.filename or "") for file in files]
    finally:
        await form.close()


def decoded(content: bytes, limits: Limits, alone: AbstractContextManager[object]) -> Bytes:
    """A picture's pixels (h, w, 3), as `predict` and `export` decode them.

    Args:
        content: The file's bytes.
        limits: Looked at before anything is decoded.
        alone: Entered while a large picture is decoded, so that not many at once fill the memory.

    Raises:
        UnreadableError: It is no picture, damaged or too large.
    """

    def read(image: Image.Image) -> Bytes:
        pixels = image.width * image.height
        if pixels > limits.megapixels * 1e6:
            raise BombError(f"it has {pixels / 1e6:.1f} million pixels; {limits.megapixels:g} million are the most")
        if max(image.size) > SIDE:
            raise BombError(f"it is {image.width}x{image.height}; a side of {SIDE:,} pixels is the most")
        with alone if pixels > LARGE else nullcontext():
            return np.asarray(upright(image))

    try:
        return opened(io.BytesIO(content), read)
    except OSError as error:
        if isinstance(error.__cause__, Image.DecompressionBombError):
            raise UnreadableError(413, "its head announces more pixels than any picture has") from error
        raise UnreadableError(413 if isinstance(error.__cause__, BombError) else 422, str(error)) from error
