"""The drawn demo set: its layout, its labels and what makes it a fair stand-in for the real frames."""

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageChops, ImageDraw, ImageOps

from vit_lightning.data import demo
from vit_lightning.data.demo import CLIP_LENGTH, draw_demo

CLIPS = 60
SIZE = (72, 128)
FOLDERS = {("1", "0"): "tom", ("0", "1"): "jerry", ("0", "0"): "tom_jerry_0", ("1", "1"): "tom_jerry_1"}


def rows(path: Path) -> list[list[str]]:
    """All lines of a CSV file, the header first."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def content(root: Path) -> dict[str, bytes]:
    """Every file under the root with its bytes."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small demo set that the tests read only."""
    root = tmp_path_factory.mktemp("demo")
    draw_demo(root, clips=CLIPS, size=SIZE)
    return root


@pytest.fixture(scope="module")
def truth(root: Path) -> npt.NDArray[np.int64]:
    """(frames, 2): whether Tom and Jerry are in each frame."""
    return np.array([[int(tom), int(jerry)] for _, tom, jerry in rows(root / "ground_truth.csv")[1:]])


@pytest.fixture(scope="module")
def images(root: Path) -> npt.NDArray[np.float64]:
    """(frames, height, width, 3): all frames in order, 0 to 255."""
    paths = sorted(root.rglob("*.jpg"), key=lambda path: int(path.stem.removeprefix("frame")))
    return np.stack([np.asarray(Image.open(path), dtype=np.float64) for path in paths])


def test_layout_and_tables_agree(root: Path) -> None:
    header, *table = rows(root / "ground_truth.csv")
    assert header == ["filename", "tom", "jerry"]
    assert [name for name, _, _ in table] == [f"frame{k}.jpg" for k in range(CLIPS * CLIP_LENGTH)]
    expected = {f"tom_and_jerry/tom_and_jerry/{FOLDERS[tom, jerry]}/{name}" for name, tom, jerry in table}
    assert set(content(root)) == expected | {"ground_truth.csv", "challenges.csv"}


def test_frames_have_the_size_asked_for(images: npt.NDArray[np.float64]) -> None:
    assert images.shape == (CLIPS * CLIP_LENGTH, *SIZE, 3)


def test_challenges_name_a_few_frames(root: Path) -> None:
    header, *table = rows(root / "challenges.csv")
    assert header == ["folder", "image_name"]
    assert 1 <= len(table) <= CLIPS // 3
    for folder, name in table:
        assert (root / "tom_and_jerry" / "tom_and_jerry" / folder / name).is_file()


def test_same_seed_same_bytes_other_seed_other_frames(tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("again", 3), ("other", 4)):
        draw_demo(tmp_path / name, clips=2, size=SIZE, seed=seed)
    one, again, other = (content(tmp_path / name) for name in ("one", "again", "other"))
    assert one == again
    assert not set(one.values()) & {data for name, data in other.items() if name.endswith(".jpg")}


def test_fewer_clips_are_the_beginning_of_the_same_set(root: Path, tmp_path: Path) -> None:
    draw_demo(tmp_path, clips=4, size=SIZE)
    few, many = content(tmp_path), content(root)
    assert len([name for name in few if name.endswith(".jpg")]) == 4 * CLIP_LENGTH
    for name, data in few.items():
        assert many[name].startswith(data) if name.endswith(".csv") else many[name] == data


def test_frames_of_a_clip_are_near_and_move(images: npt.NDArray[np.float64]) -> None:
    steps = np.abs(np.diff(images, axis=0)).mean(axis=(1, 2, 3))
    cuts = np.arange(1, len(images)) % CLIP_LENGTH == 0
    assert np.median(steps[cuts]) > 3 * np.median(steps[~cuts])
    assert steps[~cuts].min() > 0.1


def test_a_random_split_leaks_and_a_split_by_clips_does_not(
    images: npt.NDArray[np.float64], truth: npt.NDArray[np.int64]
) -> None:
    thumbs = (
        images.reshape(len(images), 9, SIZE[0] // 9, 16, SIZE[1] // 16, 3).mean(axis=(2, 4)).reshape(len(images), -1)
    )
    frame = np.arange(len(images))

    def nearest(held_out: npt.NDArray[np.bool_]) -> float:
        gaps = ((thumbs[held_out, None] - thumbs[None, ~held_out]) ** 2).sum(axis=2)
        return float((truth[~held_out][gaps.argmin(axis=1)] == truth[held_out]).all(axis=1).mean())

    assert nearest(frame % CLIP_LENGTH == 2) > 0.85
    assert nearest(frame // CLIP_LENGTH % 5 == 4) < 0.6


def test_classes_are_balanced_and_change_within_few_clips(truth: npt.NDArray[np.int64]) -> None:
    shares = Counter(map(tuple, truth.tolist()))
    assert len(shares) == 4
    assert max(shares.values()) < 0.5 * len(truth)
    clips = truth.reshape(CLIPS, CLIP_LENGTH, 2)
    changing = (clips != clips[:, :1]).any(axis=(1, 2)).mean()
    assert 0 < changing < 0.4


@pytest.mark.parametrize(("star", "fur"), [(0, demo._TOM.fur), (1, demo._JERRY.fur)])
def test_labelled_frames_show_the_character(
    images: npt.NDArray[np.float64], truth: npt.NDArray[np.int64], star: int, fur: tuple[int, ...]
) -> None:
    tone = images / (images.sum(axis=3, keepdims=True) + 30)  # what is left when the clip's lighting is divided out
    area = (np.abs(tone - np.array(fur) / (sum(fur) + 30)).max(axis=3) < 0.04).mean(axis=(1, 2))
    assert area[truth[:, star] == 1].mean() > 2 * area[truth[:, star] == 0].mean()


def test_characters_are_drawn_where_and_only_where_labelled(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[demo._Coat] = []
    for animal in (demo._cat, demo._mouse):
        monkeypatch.setattr(demo, animal.__name__, lambda *arguments: drawn.append(arguments[1]))
    for index in range(40):
        clip = demo._Clip(np.random.default_rng([0, index]), SIZE)
        for time in (0.0, 0.5, 1.0):
            drawn.clear()
            clip.frame(time)
            assert clip.labels(time) == (drawn.count(demo._TOM), drawn.count(demo._JERRY))


@pytest.mark.parametrize("animal", [demo._cat, demo._mouse, demo._dog, demo._duckling])
@pytest.mark.parametrize("upright", [True, False])
def test_an_animal_stands_on_its_ground_looks_both_ways_and_moves(
    animal: Callable[[demo._Brush, demo._Coat, demo._Pose], None], upright: bool
) -> None:
    def portrait(sign: int, step: float = 0.4, blink: bool = False) -> Image.Image:
        image = Image.new("RGB", (321, 200), "white")
        animal(demo._Brush(ImageDraw.Draw(image), 160, 180, 150, 1, sign), demo._TOM, demo._Pose(step, blink, upright))
        return image

    def gap(one: Image.Image, other: Image.Image) -> float:
        return float(np.abs(np.asarray(one, dtype=np.float64) - np.asarray(other)).mean())

    right = portrait(1)
    _, top, _, bottom = ImageChops.invert(right).getbbox() or (0, 0, 0, 0)
    assert bottom == pytest.approx(180, abs=5)
    assert bottom - top == pytest.approx(150, abs=25)
    assert gap(right, portrait(-1)) > 2 * gap(right, ImageOps.mirror(portrait(-1)))
    assert gap(right, portrait(1, step=1.5)) > 0.5
    assert gap(right, portrait(1, blink=True)) > 0.1


def test_other_animals_tell_nothing_about_the_characters() -> None:
    others: dict[tuple[bool, bool], Counter[demo._Coat]] = {}
    clips: Counter[tuple[bool, bool]] = Counter()
    for index in range(4000):
        coats = {actor.coat for actor in demo._cast(np.random.default_rng([1, index]))}
        stars = demo._TOM in coats, demo._JERRY in coats
        clips[stars] += 1
        others.setdefault(stars, Counter()).update(coats - {demo._TOM, demo._JERRY})
    assert len(clips) == 4
    for stars, found in others.items():
        for coat in (demo._BLACK_CAT, demo._GREY_MOUSE, demo._DUCK):
            assert found[coat] / clips[stars] == pytest.approx(0.1, abs=0.04)
        assert (found[demo._TAN_DOG] + found[demo._BROWN_DOG]) / clips[stars] == pytest.approx(0.1, abs=0.04)


def test_some_clips_have_black_bars(images: npt.NDArray[np.float64]) -> None:
    first = images[::CLIP_LENGTH]
    flat, tall = ((band.max(axis=(1, 2, 3)) < 12).mean() for band in (first[:, :3], first[:, :, :3]))
    assert 0.05 < flat < 0.5
    assert 0.05 < tall < 0.5


def test_reports_every_clip(tmp_path: Path) -> None:
    calls: list[int] = []
    draw_demo(tmp_path, clips=3, clip_length=1, size=(32, 32), advance=calls.append)
    assert calls == [1, 1, 1]
    assert len(rows(tmp_path / "ground_truth.csv")) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clips": 0}, "at least 1 clip .* clips=0"),
        ({"clip_length": 0}, "at least 1 frame.* clip_length=0"),
        ({"size": (31, 64)}, "at least 32 x 32 pixels, found 31 x 64"),
        ({"size": (64, 31)}, "at least 32 x 32 pixels, found 64 x 31"),
        ({"seed": -1}, "at least 0, found -1"),
    ],
)
def test_refuses_bad_numbers(tmp_path: Path, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_demo(tmp_path, **arguments)  # type: ignore[arg-type]  # settings of many types
    assert not any(tmp_path.iterdir())


def test_refuses_to_mix_with_older_frames(tmp_path: Path) -> None:
    draw_demo(tmp_path, clips=1, size=(32, 32))
    with pytest.raises(FileExistsError, match="expected no frames yet"):
        draw_demo(tmp_path, clips=1, size=(32, 32), seed=1)
