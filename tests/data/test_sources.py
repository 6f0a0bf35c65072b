"""Where the images come from: a folder, Kaggle or the demo, downloaded or drawn once."""

import errno
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from vit_lightning.data import demo, kaggle
from vit_lightning.data.datamodule import ImageDataModule
from vit_lightning.data.demo import draw_demo
from vit_lightning.data.sources import demo_root, draw_demo_once, find_classes

CLASSES = ["ant", "bee", "cow"]


def data(root: Path | None, **settings: object) -> ImageDataModule:
    module = ImageDataModule(root=root and str(root), image_size=8, val_fraction=0.2, **settings)  # type: ignore[arg-type]  # settings of many types
    module.prepare_data()
    module.setup("fit")
    return module


def test_a_folder_without_a_root_is_refused() -> None:
    message = re.escape("data.source is folder, but no folder is given: add --data.root PATH")
    with pytest.raises(ValueError, match=message):
        data(None)
    with pytest.raises(ValueError, match=message):
        find_classes("folder", None)


@pytest.mark.parametrize("source", ["kaggle", "demo"])
def test_a_root_wins_over_the_source(root: Path, source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fetch(*arguments: object, **settings: object) -> None:
        raise AssertionError("nothing is to be fetched")

    monkeypatch.setattr(kaggle, "download", fetch)
    monkeypatch.setattr(demo, "draw_demo", fetch)
    module = data(root, source=source, cache_dir=str(tmp_path / "cache"))
    assert module.source == "folder"
    assert module.used_split.class_names == tuple(CLASSES)
    assert find_classes(source, str(root)) == CLASSES  # type: ignore[arg-type]  # settings of many types


def test_kaggle_s_frames_come_from_the_cache_folder(
    frames: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Path] = []

    def download(cache_dir: Path) -> Path:
        asked.append(cache_dir)
        return frames

    monkeypatch.setattr(kaggle, "download", download)
    module = data(None, source="kaggle", cache_dir=str(tmp_path / "cache"))
    assert set(asked) == {tmp_path / "cache"}
    assert len(module.used_split.samples) == 96
    assert list(module.used_split.class_names) == find_classes("kaggle", None)


def test_classes_are_known_before_anything_is_fetched(frames: Path) -> None:
    assert find_classes("kaggle", None) == find_classes("demo", None) == find_classes("folder", str(frames))


def test_a_home_folder_is_written_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(root.parent))
    assert find_classes("folder", "~/set") == CLASSES
    assert data(Path("~/set"), cache_dir="~/cache").used_split.root == root
    assert demo_root(ImageDataModule(cache_dir="~/cache").settings.cache_dir) == root.parent / "cache" / "demo-1"


def test_the_cache_folder_is_the_platform_s_unless_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / name))
    assert ImageDataModule().settings.cache_dir == tmp_path / "vit_lightning"
    assert ImageDataModule(cache_dir="here").settings.cache_dir == Path("here")


def test_demo_frames_are_drawn_into_the_cache_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    drawn: list[Path] = []

    def draw_few(root: Path, **settings: object) -> None:
        drawn.append(root)
        draw_demo(root, clips=24, size=(32, 32))

    monkeypatch.setattr(demo, "draw_demo", draw_few)
    monkeypatch.setattr(demo, "CLIPS", 24)
    first, again = (data(None, source="demo", cache_dir=str(tmp_path)).used_split for _ in range(2))
    assert len(drawn) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"demo-1", "demo-1.lock", "frames", "scans"}
    assert first.root == again.root == tmp_path / "demo-1"
    assert first.samples == again.samples
    assert len(first.samples) == 96


def test_drawing_says_where_and_how_far_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[object] = []

    @contextmanager
    def track(description: str, total: int) -> Iterator[Callable[[int], None]]:
        seen.extend((description, total))
        yield seen.append

    monkeypatch.setattr("vit_lightning.data.sources.track", track)
    monkeypatch.setattr(demo, "CLIPS", 2)
    monkeypatch.setattr(demo, "draw_demo", partial(draw_demo, clips=2, size=(32, 32)))
    root = tmp_path / "deep" / "demo"
    draw_demo_once(root)
    assert seen == [f"drawing the demo frames into {root}", 2, 1, 1]
    assert len(list(root.rglob("*.jpg"))) == 8


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_drawing_that_was_broken_off_leaves_nothing_behind(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def break_off(root: Path, **settings: object) -> None:
        draw_demo(root, clips=1, size=(32, 32))
        raise error

    monkeypatch.setattr(demo, "draw_demo", break_off)
    with pytest.raises(type(error)):
        draw_demo_once(tmp_path / "demo")
    assert [path.name for path in tmp_path.iterdir()] == ["demo.lock"]


def test_of_two_nodes_on_one_disk_one_draws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    drawn: list[Path] = []

    def draw_slowly(root: Path, **settings: object) -> None:
        drawn.append(root)
        time.sleep(0.3)
        root.mkdir()

    monkeypatch.setattr(demo, "draw_demo", draw_slowly)
    with ThreadPoolExecutor(2) as nodes:
        list(nodes.map(draw_demo_once, [tmp_path / "demo"] * 2))
    assert len(drawn) == 1


@pytest.mark.parametrize("obstacle", ["the cache folder is a file", "the disk is full"])
def test_drawn_frames_that_cannot_be_kept_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, obstacle: str
) -> None:
    cache = tmp_path / "cache"
    if obstacle == "the disk is full":

        def fill(root: Path, **settings: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", str(root / "frame0.jpg"))

        monkeypatch.setattr(demo, "draw_demo", fill)
    else:
        cache.touch()
    message = (
        rf"^the drawn frames cannot be kept in {cache} \((No space left on device|.*xists|Not a directory)\); choose "
    )
    with pytest.raises(ValueError, match=message + r"another folder with --data\.cache_dir$"):
        data(None, source="demo", cache_dir=str(cache))


def test_files_that_are_left_out_are_told_once(root: Path, told: list[tuple[str, str]]) -> None:
    for name in ("ant/1.avif", "bee/2.avif", "ant/.3.png"):
        (root / name).touch()
    assert len(data(root).used_split.samples) == 30
    assert told == [("INFO", "left out: 2 .avif files, 1 hidden file")]
