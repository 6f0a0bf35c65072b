"""Frames from files, from memory and from the disk: the same bytes, decoded no more often than needed."""

import errno
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Sequence
from io import RawIOBase
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL
import pytest
import torch
import torchvision
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import functional

from vit_lightning.data import frames
from vit_lightning.data.frames import Cache, FrameFile, KeptFrames, find_frames, load_frame
from vit_lightning.data.images import load_image
from vit_lightning.data.loading import LabelledImages
from vit_lightning.data.near_duplicates import read_thumbnails
from vit_lightning.data.transforms import FrameSize

SMALL = FrameSize(8, 16, "near")


def picture(seed: int, width: int = 60, height: int = 40) -> Image.Image:
    """Soft colours, which a JPEG keeps well."""
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize((width, height))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six pictures of several sizes."""
    folder = tmp_path / "set" / "a"
    folder.mkdir(parents=True)
    for index in range(6):
        picture(index, width=60 + 4 * index).save(folder / f"{index}.jpg")
    return tmp_path / "set"


PATHS = [f"a/{index}.jpg" for index in range(6)]


def all_of(found: frames.Frames) -> list[Tensor]:
    return [found[index].clone() for index in range(len(found))]


def find(root: Path, paths: Sequence[str] = PATHS, cache: Cache = "disk", size: FrameSize = SMALL) -> frames.Frames:
    return find_frames(root, paths, size, cache=cache, cache_dir=root.parent / "cache")


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were decoded, in any order."""
    names: list[str] = []

    def noted(path: Path, size: frames.Sizing) -> Tensor:
        names.append(path.name)
        return load_frame(path, size)

    monkeypatch.setattr(frames, "load_frame", noted)
    return names


# One frame


@pytest.mark.parametrize("size", [(24, 40), (40, 24), (64, 16), (33, 57)])
@pytest.mark.parametrize("name", ["x.png", "x.jpg"])
def test_a_frame_is_pillow_s_own_decoding_and_resize_but_for_rounding(
    tmp_path: Path, size: tuple[int, int], name: str
) -> None:
    picture(0, 57, 33).save(tmp_path / name)
    found = load_frame(tmp_path / name, lambda *_: size)
    expected = load_image(tmp_path / name).resize(size[::-1], Image.Resampling.BILINEAR)
    assert found.dtype == torch.uint8
    assert found.shape == (*size, 3)
    assert np.abs(found.numpy().astype(int) - np.asarray(expected)).max() <= 1
    if size == (33, 57):
        assert np.array_equal(found.numpy(), np.asarray(expected))


@pytest.mark.parametrize("shape", [(160, 40), (40, 160)])
def test_nothing_is_cut_off_a_picture_of_another_shape(tmp_path: Path, shape: tuple[int, int]) -> None:
    width, height = shape
    image = Image.new("RGB", shape)
    corners = {(0, 0): "red", (1, 0): "lime", (0, 1): "blue", (1, 1): "white"}
    for (right, down), colour in corners.items():
        x, y = right * (width - 8), down * (height - 8)
        image.paste(colour, (x, y, x + 8, y + 8))
    image.save(tmp_path / "x.png")
    found = load_frame(tmp_path / "x.png", lambda *_: (20, 20))
    assert found[0, 0].tolist() == pytest.approx([255, 0, 0], abs=40)
    assert found[0, -1].tolist() == pytest.approx([0, 255, 0], abs=40)
    assert found[-1, 0].tolist() == pytest.approx([0, 0, 255], abs=40)
    assert found[-1, -1].tolist() == pytest.approx([255, 255, 255], abs=40)


@pytest.mark.parametrize(
    ("ending", "scale"), [("jpg", 1), ("jpg", 2.2), ("jpg", 5), ("jpg", 9), ("png", 2), ("tiff", 2), ("webp", 2)]
)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_large_and_turned_pictures_are_decoded_smaller_but_look_the_same(
    tmp_path: Path, orientation: int, ending: str, scale: float
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / f"x.{ending}"
    picture(1, round(90 * scale), round(60 * scale)).save(file, exif=exif, quality=95)
    size = (90, 60) if orientation > 4 else (60, 90)
    asked = []

    def sizing(height: int, width: int) -> tuple[int, int]:
        asked.append((height, width))
        return size

    found = load_frame(file, sizing).numpy().astype(int)
    upright = load_image(file)
    assert asked == [(upright.height, upright.width)]
    expected = np.asarray(upright.resize(size[::-1], Image.Resampling.BILINEAR))
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 3  # of 255: an eighth of the size is not quite the mean of 64 pixels


def test_a_jpeg_three_times_too_large_is_decoded_whole(tmp_path: Path) -> None:
    """Half of it would do, and would change a label here and there."""
    picture(3, 90, 60).save(tmp_path / "x.jpg", quality=95)
    whole = torch.from_numpy(np.array(load_image(tmp_path / "x.jpg"))).permute(2, 0, 1)
    expected = functional.resize(whole, [20, 30], antialias=True).permute(1, 2, 0)
    assert torch.equal(load_frame(tmp_path / "x.jpg", FrameSize(20, 30)), expected)


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB", "YCbCr"])
def test_jpegs_of_all_colour_modes_come_out_as_pillow_s(
    tmp_path: Path, mode: str, quick: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not quick:
        monkeypatch.setattr(frames, "decode_jpeg", None)
    picture(2).convert(mode).save(tmp_path / "x.jpg")
    found = load_frame(tmp_path / "x.jpg", lambda height, width: (height, width))
    assert np.array_equal(found.numpy(), np.asarray(load_image(tmp_path / "x.jpg")))


def test_torchvision_decodes_while_it_can_and_its_caches_stay_valid() -> None:
    assert frames.find_decoder() == (torchvision.io.decode_jpeg, "")
    assert f"3, Pillow {PIL.__version__}, torchvision {torchvision.__version__}" == frames.VERSION


def without_torchvision(monkeypatch: pytest.MonkeyPatch, **torchcodec: object) -> None:
    """torchvision has dropped its decoders; torchcodec has these."""
    monkeypatch.delattr(torchvision.io, "decode_jpeg")
    decoders = SimpleNamespace(**torchcodec)
    package = SimpleNamespace(__version__="0.16.0", decoders=decoders) if torchcodec else None  # None: not installed
    monkeypatch.setitem(sys.modules, "torchcodec", package)
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", decoders)


def test_torchcodec_takes_torchvision_s_place_where_it_is_installed(
    root: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[str]
) -> None:
    expected = all_of(find(root))
    sizes = []

    def decode_jpeg(content: Tensor) -> Tensor:
        sizes.append(len(content))
        pixels: Tensor = decode(content)
        return pixels

    decode: Any = torchvision.io.decode_jpeg
    without_torchvision(monkeypatch, decode_jpeg=decode_jpeg)
    decoder, name = frames.find_decoder()
    assert (decoder, name) == (decode_jpeg, ", torchcodec 0.16.0")
    monkeypatch.setattr(frames, "decode_jpeg", decoder)
    monkeypatch.setattr(frames, "VERSION", frames.VERSION + name)
    del decoded[:]
    assert same(
        all_of(find(root, size=FrameSize(40, 60))), [load_frame(root / path, FrameSize(40, 60)) for path in PATHS]
    )
    assert same(all_of(find(root)), expected)
    assert len(decoded) == 12  # other bytes perhaps: another cache
    assert (root / PATHS[0]).stat().st_size in sizes


@pytest.mark.parametrize("torchcodec", [{}, {"VideoDecoder": None}])
def test_without_either_or_with_an_old_torchcodec_pillow_decodes(
    monkeypatch: pytest.MonkeyPatch, torchcodec: dict[str, object]
) -> None:
    without_torchvision(monkeypatch, **torchcodec)
    assert frames.find_decoder() == (None, ", JPEGs by Pillow")


def test_nothing_is_said_of_torchvision_s_leaving(root: Path) -> None:
    program = (
        "import sys; from vit_lightning.data.frames import decode_jpeg, load_frame\n"
        "assert decode_jpeg; print(load_frame(sys.argv[1], lambda *size: size).shape)"
    )
    command = [sys.executable, "-W", "error:The image decoding", "-c", program, str(root / PATHS[0])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_cut_jpeg_is_refused_with_its_name(tmp_path: Path) -> None:
    picture(3).save(tmp_path / "whole.jpg")
    content = (tmp_path / "whole.jpg").read_bytes()
    for cut in (1, 2, 10, len(content) // 2):
        (tmp_path / "cut.jpg").write_bytes(content[:-cut])
        with pytest.raises(OSError, match=r"cut\.jpg cannot be read: .*[Tt]runcated.*; mend it or take it away"):
            load_frame(tmp_path / "cut.jpg", lambda *size: size)
    with pytest.raises(FileNotFoundError):
        load_frame(tmp_path / "gone.jpg", SMALL)


# Kept


def test_all_caches_give_the_same_bytes(root: Path) -> None:
    expected = [load_frame(root / path, SMALL) for path in PATHS]
    assert {tuple(frame.shape) for frame in expected} == {(10, 20, 3)}
    for cache in ("none", "memory", "disk", "disk"):
        assert same(all_of(find(root, cache=cache)), expected)


def test_frames_of_several_sizes_lie_side_by_side(root: Path) -> None:
    size = FrameSize(30, 30, "square")
    expected = [load_frame(root / path, size) for path in PATHS]
    assert len({tuple(frame.shape) for frame in expected}) > 3
    assert same(all_of(find(root, size=size)), expected)


def test_a_model_as_small_as_thumbnails_does_not_share_their_frames(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    (tmp_path / "data").mkdir()
    Image.fromarray(noise).save(tmp_path / "data/a.jpg")
    for size in (FrameSize(16, 16, spare=1), FrameSize(16, 16), FrameSize(16, 16, spare=1)):
        kept = find_frames(tmp_path / "data", ["a.jpg"], size, cache="disk", cache_dir=tmp_path)[0]
        assert torch.equal(kept, load_frame(tmp_path / "data/a.jpg", size))
    assert not torch.equal(kept, load_frame(tmp_path / "data/a.jpg", FrameSize(16, 16)))


def test_what_is_kept_is_not_decoded_again(root: Path, decoded: list[str]) -> None:
    find(root)
    assert sorted(decoded) == [f"{index}.jpg" for index in range(6)]
    del decoded[:]
    find(root)
    find(root, PATHS[2:4])
    assert decoded == []


def test_only_what_is_new_or_changed_is_decoded(root: Path, decoded: list[str]) -> None:
    find(root, PATHS[:4])
    del decoded[:]
    picture(77).save(root / PATHS[1])
    found = find(root)
    assert sorted(decoded) == ["1.jpg", "4.jpg", "5.jpg"]
    assert same(all_of(found), [load_frame(root / path, SMALL) for path in PATHS])
    del decoded[:]
    find(root, PATHS[::-1])
    assert decoded == []


def test_sizes_and_roots_do_not_mix(root: Path, decoded: list[str]) -> None:
    find(root)
    other = root.parent / "other"
    shutil.copytree(root, other)
    picture(99).save(other / PATHS[0])
    del decoded[:]
    for size in (FrameSize(16, 8, "near"), FrameSize(8, 16)):
        assert same(all_of(find(root, size=size)), [load_frame(root / path, size) for path in PATHS])
    assert len(decoded) == 12
    found = find_frames(other, PATHS, SMALL, cache="disk", cache_dir=root.parent / "cache")
    assert torch.equal(found[0], load_frame(other / PATHS[0], SMALL))


def folder_of(root: Path) -> Path:
    (folder,) = (root.parent / "cache" / "frames").iterdir()
    return folder


def test_what_other_versions_decoded_is_decoded_again(
    root: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find(root)
    monkeypatch.setattr(frames, "VERSION", "2")
    del decoded[:]
    find(root)
    assert len(decoded) == 6
    assert len(list(folder_of(root).glob("*.frames"))) == 1  # the old one is gone


@pytest.mark.parametrize("damage", ["no table", "half a table", "no frames", "half the frames", "a table of something"])
def test_a_damaged_cache_is_made_anew(root: Path, damage: str, decoded: list[str]) -> None:
    find(root)
    folder = folder_of(root)
    table, (file,) = folder / f"{SMALL}.json", folder.glob("*.frames")
    if damage == "no table":
        table.unlink()
    elif damage == "half a table":
        table.write_text(table.read_text()[:-40])
    elif damage == "a table of something":
        table.write_text("[1, 2]")
    elif damage == "no frames":
        file.unlink()
    else:
        os.truncate(file, file.stat().st_size // 2)
    del decoded[:]
    assert same(all_of(find(root)), [load_frame(root / path, SMALL) for path in PATHS])
    assert len(decoded) >= 6
    del decoded[:]
    find(root)
    assert decoded == []


def test_a_file_half_full_of_old_frames_is_begun_anew(root: Path) -> None:
    find(root)
    before = next(folder_of(root).glob("*.frames"))
    for seed, path in enumerate(PATHS):
        picture(100 + seed).save(root / path)
    assert same(all_of(find(root)), [load_frame(root / path, SMALL) for path in PATHS])
    (after,) = folder_of(root).glob("*.frames")
    assert after != before
    assert after.stat().st_size == 6 * 10 * 20 * 3


def test_frames_that_others_look_at_stay_as_they_are(root: Path) -> None:
    first = find(root)
    before = all_of(first)
    for path in PATHS:
        picture(200).save(root / path)
    find(root)
    assert same(all_of(first), before)


def test_an_unreadable_picture_is_named_and_the_others_are_kept(
    root: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "CHUNK", 2)
    (root / PATHS[5]).write_bytes(b"")
    with pytest.raises(OSError, match=r"5\.jpg cannot be read: the file is empty"):
        find(root)
    picture(5).save(root / PATHS[5])
    del decoded[:]
    find(root)
    assert sorted(decoded) == ["4.jpg", "5.jpg"]  # what had come before the chunk of the bad one was kept


def test_two_processes_decode_once(root: Path) -> None:
    """Both are given the same frames; one waits for the other."""
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from vit_lightning.data import frames\n"
        "from vit_lightning.data.transforms import FrameSize\n"
        "load = frames.load_frame\n"
        "frames.load_frame = lambda path, size: (sys.stdout.write(path.name + ' '), load(path, size))[1]\n"
        "root = Path(sys.argv[1])\n"
        "found = frames.find_frames(root, sys.argv[2:], FrameSize(8, 16, 'near'), cache='disk',\n"
        "    cache_dir=root.parent / 'cache')\n"
        "print(sum(int(found[i].sum()) for i in range(len(found))))\n"
    )
    command = [sys.executable, "-u", "-c", program, str(root), *PATHS]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    words = [process.communicate(timeout=120)[0].split() for process in processes]
    assert sorted(word for one in words for word in one if word.endswith(".jpg")) == [f"{i}.jpg" for i in range(6)]
    expected = str(sum(int(load_frame(root / path, SMALL).sum()) for path in PATHS))
    assert [one[-1] for one in words] == [expected, expected]


@pytest.mark.parametrize("cache", ["disk", "memory"])
def test_frames_reach_spawned_loader_processes(root: Path, cache: Cache) -> None:
    found = find(root, cache=cache)
    loader = DataLoader(LabelledImages(found, range(6)), batch_size=3, num_workers=1, multiprocessing_context="spawn")
    assert same([frame for batch, _ in loader for frame in batch], all_of(found))


def test_mapped_frames_travel_as_a_name_and_places(root: Path) -> None:
    found = find(root)
    assert isinstance(found, KeptFrames)
    content = pickle.dumps(found)
    assert len(content) < 1500
    assert same(all_of(pickle.loads(content)), all_of(found))


def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3000))


def test_a_disk_without_room_is_refused_before_anything_is_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        no_room(patch)
        with pytest.raises(ValueError, match=r"take 0\.0 GB, but the disk of .*; choose .*cache_dir, or .*cache none"):
            find(root)
    assert sum(path.stat().st_size for path in folder_of(root).glob("*.frames")) == 0
    assert len(find(root)) == 6


def fail_after(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """The disk takes so many frames, and half of one more."""
    left = [count]

    def write(out: RawIOBase, frame: Tensor) -> None:
        left[0] -= 1
        if left[0] < 0:
            out.write(frame.numpy().tobytes()[:300])
            raise OSError(errno.ENOSPC, "No space left on device")
        out.write(frame.numpy().tobytes())

    monkeypatch.setattr(frames, "write_all", write)


@pytest.mark.parametrize("known", [0, 2])
def test_a_disk_that_fills_up_meanwhile_is_told_and_given_its_room_back(
    root: Path, known: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = find(root, PATHS[:known]) if known else []
    before = all_of(first)
    with monkeypatch.context() as patch:
        fail_after(patch, 2)
        with pytest.raises(
            ValueError, match=r"cannot be kept in .* \(No space left on device\); choose another folder"
        ):
            find(root)
    (file,) = folder_of(root).glob("*.frames")
    assert file.stat().st_size == known * 600
    assert same(all_of(first), before)
    assert same(all_of(find(root)), [load_frame(root / path, SMALL) for path in PATHS])


def test_without_a_table_there_are_no_frames(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that went on with frames of which no table tells would see them written over by the next one."""

    def full(self: Path, *_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(ValueError, match=r"cannot be kept in .* \(No space left on device\)"):
            find(root)
    assert {path.suffix for path in folder_of(root).iterdir()} <= {".frames", ".lock"}
    assert same(all_of(find(root)), [load_frame(root / path, SMALL) for path in PATHS])


def test_what_a_killed_process_left_is_not_written_over(root: Path) -> None:
    """Somebody may look at it."""
    find(root, PATHS[:4])
    (file,) = folder_of(root).glob("*.frames")
    with file.open("ab") as out:
        out.write(b"x" * 700)
    assert same(all_of(find(root)), [load_frame(root / path, SMALL) for path in PATHS])
    assert file.read_bytes()[2400:3100] == b"x" * 700


def test_now_and_then_what_was_decoded_is_safe(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "CHUNK", 2)
    monkeypatch.setattr(frames, "BETWEEN", 0.0)
    seen: list[int] = []
    publish = FrameFile.publish

    def noted(self: FrameFile, file: Path, rows: frames.Rows) -> None:
        publish(self, file, rows)
        seen.append(len(self.read()[1]))

    monkeypatch.setattr(FrameFile, "publish", noted)
    find(root)
    assert seen == [2, 4, 6]


@pytest.mark.skipif(
    os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere"
)
def test_a_cache_that_cannot_be_written_is_told(root: Path) -> None:
    (root.parent / "cache").mkdir(mode=0o500)
    with pytest.raises(ValueError, match=r"cannot be kept in .*Permission denied.*--data\.cache_dir"):
        find(root)


def test_a_file_in_the_cache_s_place_is_told(root: Path) -> None:
    (root.parent / "cache").write_text("")
    with pytest.raises(ValueError, match=r"cannot be kept in .*; choose another folder with --data\.cache_dir"):
        find(root)


def test_a_whole_cache_is_read_without_writing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find(root)

    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("vit_lightning.data.frames.FileLock.acquire", refused)
    assert same(all_of(find(root)), [load_frame(root / path, SMALL) for path in PATHS])


def test_memory_that_is_not_there_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "physical_memory", lambda: 3000)
    with pytest.raises(ValueError, match=r"but this machine has 0\.0 GB; use --data\.cache disk, or none"):
        find(root, cache="memory")


def test_physical_memory_is_that_of_the_machine() -> None:
    assert frames.physical_memory() > 10**8


def test_the_table_says_what_lies_where(root: Path) -> None:
    find(root)
    table = json.loads(FrameFile(root, SMALL, root.parent / "cache").table.read_text())
    assert list(table["frames"]) == PATHS
    assert [row[2:] for row in table["frames"].values()] == [[index * 600, 10, 20] for index in range(6)]


def test_of_many_pictures_the_progress_is_shown(
    root: Path, monkeypatch: pytest.MonkeyPatch, told: list[tuple[str, str]]
) -> None:
    find(root)
    assert told == []
    monkeypatch.setattr(frames, "CHUNK", 4)
    find(root, size=FrameSize(8, 8))
    find(root, size=FrameSize(8, 8))
    read_thumbnails(root, PATHS, cache="disk", cache_dir=root.parent / "cache")
    assert [text for _, text in told] == [
        "decoding 6 pictures for the model, once",
        "decoding 6 pictures at 16 x 16 pixels to compare them, once",
    ]
