"""Frames of videos, held against the pictures that ffmpeg made them of and against ffprobe's times."""

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from vit_lightning.data import video
from vit_lightning.data.frames import load_frame
from vit_lightning.data.loading import UnlabelledImages
from vit_lightning.data.transforms import frame_size
from vit_lightning.data.video import PicturesAndFrames, check_decoder, frame_at, is_video, sampled_frames

needs_ffmpeg = pytest.mark.skipif(
    shutil.which("ffmpeg") is None or importlib.util.find_spec("torchcodec") is None, reason="needs ffmpeg, torchcodec"
)
SIZE = frame_size((16, 32))


def ffmpeg(*words: str) -> None:
    subprocess.run(["ffmpeg", "-loglevel", "error", "-y", *words], check=True, stdin=subprocess.DEVNULL)


def whole(height: int, width: int) -> tuple[int, int]:
    """Frames at their own size."""
    return height, width


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures of noise, s0.png and so on, and lossless films of them, two a second."""
    folder = tmp_path_factory.mktemp("films")
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (36, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"s{number}.png")
    still = ["-framerate", "2", "-i", str(folder / "s%d.png")]
    ffmpeg(*still, "-c:v", "ffv1", "-pix_fmt", "gbrp", str(folder / "ffv1.mkv"))
    ffmpeg(*still, "-c:v", "libx264rgb", "-qp", "0", "-g", "3", str(folder / "h264.mp4"))
    ffmpeg(*still, "-c:v", "libx264rgb", "-qp", "0", "-output_ts_offset", "5", str(folder / "late.mkv"))
    lengths = "".join(f"file 's{number}.png'\nduration {number + 1}\n" for number in range(4))
    (folder / "list.txt").write_text(lengths)
    concat = ["-f", "concat", "-i", str(folder / "list.txt"), "-vsync", "vfr"]
    ffmpeg(*concat, "-c:v", "ffv1", "-pix_fmt", "gbrp", str(folder / "vfr.mkv"))
    ffmpeg("-f", "lavfi", "-i", "sine=d=2", str(folder / "sound.mp4"))
    ffmpeg("-f", "lavfi", "-i", "color=size=64x36:rate=1:duration=200", str(folder / "long.mp4"))
    return folder


def still(films: Path, number: int) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(films / f"s{number}.png")))


def shown_times(path: Path) -> list[float]:
    """When ffprobe says that each frame begins, from the first one on."""
    words = ["ffprobe", "-v", "error", "-of", "json", "-select_streams", "v", "-show_entries", "frame=pts_time"]
    found = json.loads(subprocess.run([*words, str(path)], check=True, capture_output=True).stdout)["frames"]
    times = [float(frame["pts_time"]) for frame in found]
    return [time - times[0] for time in times]


@needs_ffmpeg
@pytest.mark.parametrize("name", ["ffv1.mkv", "h264.mp4", "late.mkv", "vfr.mkv"])
@pytest.mark.parametrize("every", [0.5, 0.3, 1.0, 7.0])
def test_each_time_has_the_picture_that_is_shown_then(films: Path, name: str, every: float) -> None:
    begins = shown_times(films / name)
    found = list(sampled_frames(films / name, whole, every))
    assert [seconds for seconds, _ in found] == pytest.approx([every * index for index in range(len(found))])
    assert found[-1][0] >= begins[-1] - every + 1e-6  # up to the end
    for seconds, frame in found:
        number = max(index for index, begin in enumerate(begins) if begin <= seconds + 1e-6)
        assert torch.equal(frame, still(films, number)), seconds


@needs_ffmpeg
def test_frames_are_resized_as_pictures_are(films: Path) -> None:
    for number, (seconds, frame) in enumerate(sampled_frames(films / "ffv1.mkv", SIZE, 0.5)):
        assert torch.equal(frame, load_frame(films / f"s{number}.png", SIZE))
        assert torch.equal(frame, frame_at(films / "ffv1.mkv", seconds, SIZE))
    assert number == 5


@needs_ffmpeg
def test_a_film_that_lies_on_its_side_is_turned(films: Path, tmp_path: Path) -> None:
    """The matrix of the track's head says so, as a phone writes it; here by hand."""
    content = bytearray((films / "h264.mp4").read_bytes())
    place = content.index(b"tkhd") + 4 + 40
    rows = [0, 0x10000, 0, -0x10000, 0, 0, 36 << 16, 0, 0x40000000]
    content[place : place + 36] = b"".join(row.to_bytes(4, "big", signed=True) for row in rows)
    (tmp_path / "turned.mp4").write_bytes(content)
    first = next(sampled_frames(tmp_path / "turned.mp4", whole))[1]
    assert torch.equal(first, still(films, 0).rot90(-1))


@needs_ffmpeg
def test_a_few_frames_are_decoded_at_a_time(films: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most, real = [0], video.decoded

    def counted(decoder: object, times: list[float], size: object) -> object:
        most.append(len(times))
        return real(decoder, times, size)  # type: ignore[arg-type]  # handed on

    monkeypatch.setattr(video, "decoded", counted)
    frames = sampled_frames(films / "long.mp4", SIZE)
    next(frames)
    assert sum(most) == 32  # nothing is decoded before it is asked for
    monkeypatch.setattr(video, "AT_ONCE", 5 * 3 * 64 * 36)
    most.clear()
    assert len(list(sampled_frames(films / "long.mp4", SIZE))) == 200
    assert set(most) == {5}


@needs_ffmpeg
def test_what_is_no_film_says_why(films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("no film")
    (tmp_path / "cut.mp4").write_bytes((films / "h264.mp4").read_bytes()[:300])
    cases = {
        tmp_path / "empty.mp4": "the file is empty",
        tmp_path / "text.mp4": "no video that FFmpeg can read",
        tmp_path / "cut.mp4": "cut off",
        films / "sound.mp4": "it holds no pictures, at most sound",
        tmp_path / "gone.mp4": "No such file",
    }
    for path, words in cases.items():
        with pytest.raises(OSError, match=words):
            next(sampled_frames(path, SIZE))
    with pytest.raises(ValueError, match=r"every 0 seconds; expected more than 0"):
        next(sampled_frames(films / "ffv1.mkv", SIZE, 0))
    monkeypatch.setattr(video, "MOST_FRAMES", 100)
    with pytest.raises(OSError, match=r"it lasts 200 s, which is 200 frames; take fewer with a larger --every"):
        next(sampled_frames(films / "long.mp4", SIZE))
    monkeypatch.setattr(video, "MOST_PIXELS", 1000)
    with pytest.raises(OSError, match=r"its frames have 64 x 36 pixels; expected at most 1,000 in all"):
        next(sampled_frames(films / "ffv1.mkv", SIZE))


@needs_ffmpeg
def test_a_film_that_breaks_off_keeps_what_came_before(films: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = video.decoded

    def breaking(decoder: object, times: list[float], size: object) -> object:
        if times[0] >= 64:
            raise OSError(f"from {times[0]:.3f} s on it is damaged")
        return real(decoder, times, size)  # type: ignore[arg-type]  # handed on

    monkeypatch.setattr(video, "decoded", breaking)
    paths = [films / "s0.png", films / "long.mp4", films / "s1.png"]
    found = [
        (path, reason, seconds) for _, path, reason, seconds in PicturesAndFrames(UnlabelledImages(paths, SIZE), 1.0)
    ]
    assert found[0] == (str(paths[0]), "", "")
    assert found[1:65] == [(str(paths[1]), "", f"{float(second)}") for second in range(64)]
    assert found[65:] == [(str(paths[1]), "from 64.000 s on it is damaged", ""), (str(paths[2]), "", "")]


@needs_ffmpeg
def test_a_film_that_was_cut_off_has_the_frames_that_are_there(films: Path, tmp_path: Path) -> None:
    content = (films / "ffv1.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(content[: len(content) // 2])
    found = [frame for _, frame in sampled_frames(tmp_path / "cut.mkv", whole, 0.5)]
    assert 0 < len(found) < 6
    assert all(torch.equal(frame, still(films, number)) for number, frame in enumerate(found))


def test_films_are_told_by_their_names() -> None:
    assert [is_video(name) for name in ("a.mp4", "B.MOV", "c.webm", "a.gif", "mp4", "a.jpg")] == [True] * 3 + [
        False
    ] * 3


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    find: Callable[[str], object] = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if name == "torchcodec" else find(name))
    monkeypatch.setitem(sys.modules, "torchcodec", SimpleNamespace(ffmpeg_major_version=None))
    with pytest.raises(ValueError, match=r"videos need FFmpeg, .*: apt-get install ffmpeg, or brew"):
        check_decoder()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "torchcodec" else find(name))
    with pytest.raises(ValueError, match=r"videos need torchcodec: pip install 'vit-lightning\[video\]'"):
        check_decoder()
