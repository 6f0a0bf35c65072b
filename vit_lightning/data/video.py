"""Frames of videos at a steady rate, by torchcodec (the extra `video`), which needs the system's FFmpeg."""

import importlib.util
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor
from torch.utils.data import IterableDataset
from torchvision.transforms.v2 import functional

from vit_lightning.data.loading import UnlabelledImages

if TYPE_CHECKING:
    from torchcodec.decoders import VideoDecoder

#: Endings of video files, in any case.
VIDEOS = (
    *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts"),
    *(".webm", ".wmv"),
)

#: Pixels of a frame at most (8K has half as many), and frames taken from a video.
MOST_PIXELS, MOST_FRAMES = 2**26, 1_000_000

#: Bytes of whole frames that are in memory at once, where one alone is not larger.
AT_ONCE = 2**26

#: From an upright picture's height and width to those of its frame.
Sizing = Callable[[int, int], tuple[int, int]]


def is_video(path: Path | str) -> bool:
    """Whether a file's name says that it is a video."""
    return Path(path).suffix.lower() in VIDEOS


def check_decoder() -> None:
    """Looks whether videos can be read here.

    Raises:
        ValueError: torchcodec or FFmpeg is missing; the message says what to install.
    """
    if importlib.util.find_spec("torchcodec") is None:
        raise ValueError("videos need torchcodec: pip install 'vit-lightning[video]', or -e '.[video]'")
    try:
        from torchcodec import ffmpeg_major_version as found
    except (ImportError, RuntimeError, OSError) as error:  # of another torch
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"torchcodec cannot be used ({reason}); install it anew, as the extra `video`") from error
    if found is None:
        raise ValueError("videos need FFmpeg, version 4 or later: apt-get install ffmpeg, or brew install ffmpeg")


def open_video(path: Path | str) -> "VideoDecoder":
    """Opens a video, after a look at all of its packets: their times count, not what its head says.

    Raises:
        FileNotFoundError: The file is missing.
        OSError: It is no video that can be read, or one of too large pictures; the message does not name it.
        ValueError: torchcodec or FFmpeg is missing.
    """
    check_decoder()
    from torchcodec.decoders import VideoDecoder

    with Path(path).open("rb") as file:  # the system's own errors, and no protocol of FFmpeg's by a name
        if not file.read(1):
            raise OSError("the file is empty")
    try:
        decoder = VideoDecoder(Path(path).absolute(), num_ffmpeg_threads=0, device="cpu")
    except ValueError as error:
        raise OSError("it holds no pictures, at most sound") from error
    except RuntimeError as error:
        raise OSError("it is damaged, cut off, or no video that FFmpeg can read") from error
    about = decoder.metadata
    if not about.num_frames or about.begin_stream_seconds is None or about.end_stream_seconds is None:
        raise OSError("it holds no frame")
    if (about.height or 0) * (about.width or 0) > MOST_PIXELS:
        raise OSError(f"its frames have {about.width} x {about.height} pixels; expected at most {MOST_PIXELS:,} in all")
    return decoder


def frame_at(path: Path | str, seconds: float, size: Sizing) -> Tensor:
    """The frame that a video shows at a time: bytes (height, width, 3).

    Raises:
        OSError: As in `sampled_frames`.
    """
    decoder = open_video(path)
    return next(iter(decoded(decoder, [seconds], size)))


def sampled_frames(path: Path | str, size: Sizing, every: float = 1.0) -> Iterator[tuple[float, Tensor]]:
    """What a video shows at 0, `every`, 2 `every`, ... seconds after its first frame, decoded a few frames at a time.

    A frame is shown until the next one begins, however long that takes: where frames have different lengths, one may
    come more than once, and others never. Frames are turned as the video says, and resized as pictures are.

    Args:
        path: The file.
        size: From a frame's height and width to those that it is resized to.
        every: Seconds from one to the next.

    Yields:
        Seconds, and bytes (height, width, 3).

    Raises:
        FileNotFoundError: The file is missing.
        OSError: It is no readable video, or is damaged from some time on; the message does not name it.
        ValueError: torchcodec or FFmpeg is missing, or `every` is not more than 0.
    """
    if not every > 0:
        raise ValueError(f"a video's frames are taken every {every} seconds; expected more than 0")
    decoder = open_video(path)
    begin, end = decoder.metadata.begin_stream_seconds or 0.0, decoder.metadata.end_stream_seconds or 0.0
    count = max(1, math.ceil((end - begin) / every - 1e-6))
    if count > MOST_FRAMES:
        raise OSError(f"it lasts {end - begin:,.0f} s, which is {count:,} frames; take fewer with a larger --every")
    pixels = (decoder.metadata.height or 1) * (decoder.metadata.width or 1)
    step = max(1, min(32, AT_ONCE // (3 * pixels)))
    for first in range(0, count, step):
        times = [index * every for index in range(first, min(first + step, count))]
        yield from zip(times, decoded(decoder, times, size), strict=True)


def decoded(decoder: "VideoDecoder", times: Sequence[float], size: Sizing) -> Iterator[Tensor]:
    """The frames that are shown at so many seconds after the first one: bytes (height, width, 3) each.

    Raises:
        OSError: They cannot be decoded.
    """
    begin, end = decoder.metadata.begin_stream_seconds or 0.0, decoder.metadata.end_stream_seconds or 0.0
    try:
        # A sum may round to the end, at which nothing is shown any more.
        frames = decoder.get_frames_played_at([min(begin + time, math.nextafter(end, begin)) for time in times]).data
    except (RuntimeError, ValueError, IndexError) as error:
        raise OSError(f"from {times[0]:.3f} s on it is damaged") from error
    for frame in frames:
        resized: Tensor = functional.resize(frame, list(size(*frame.shape[1:])), antialias=True)
        yield resized.permute(1, 2, 0).contiguous()


class PicturesAndFrames(IterableDataset[tuple[Tensor, str, str, str]]):
    """Pictures and the sampled frames of videos, in their order: bytes (H, W, 3), path, why there is none, and seconds.

    As `UnlabelledImages`, with a fourth: the seconds after the video's first frame, as a word, since not all devices
    have numbers as precise; '' of a picture. A video that breaks off has its reason after the frames before.

    Args:
        pictures: All of them as if they were pictures.
        every: Seconds from one frame to the next.
    """

    def __init__(self, pictures: UnlabelledImages, every: float) -> None:
        self.pictures = pictures
        self.every = every

    def __iter__(self) -> Iterator[tuple[Tensor, str, str, str]]:
        size = self.pictures.size
        for index, path in enumerate(self.pictures.paths):
            if not is_video(path):
                yield (*self.pictures[index], "")
                continue
            try:
                for seconds, frame in sampled_frames(path, size, self.every):
                    yield frame, str(path), "", repr(seconds)
            except OSError as error:
                yield self.pictures.black(), str(path), error.strerror or str(error), ""
