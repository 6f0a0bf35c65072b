"""Thumbnails, distances between all of them, and groups of those that look alike."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vit_lightning.data import near_duplicates
from vit_lightning.data.images import load_image
from vit_lightning.data.index import Sample
from vit_lightning.data.near_duplicates import distances, duplicate_groups, in_two_classes, read_thumbnails


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(count, 16, 16, 3), dtype=np.uint8)


@pytest.mark.parametrize("cache", ["disk", "memory", "none"])
def test_a_thumbnail_is_the_picture_made_small(frames: Path, tmp_path: Path, cache: str) -> None:
    paths = sorted(path.relative_to(frames).as_posix() for path in frames.rglob("*.jpg"))[:5]
    found = read_thumbnails(frames, paths, cache=cache, cache_dir=tmp_path)  # type: ignore[arg-type]  # all are kinds
    for path, thumbnail in zip(paths, found, strict=True):
        small = load_image(frames / path).resize((16, 16))
        assert np.abs(thumbnail.astype(float) - np.asarray(small)).mean() < 6


def test_distances_are_numpys(monkeypatch: pytest.MonkeyPatch) -> None:
    some, others = noise(7), noise(5, seed=1)
    monkeypatch.setattr(near_duplicates, "CHUNK", 10)  # two rows at a time
    parts = list(distances(some, others))
    assert [part for part, _, _ in parts] == [slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 8)]
    found = np.concatenate([difference for _, difference, _ in parts])
    whole = (some[:, None].astype(float) - others[None].astype(float)) ** 2
    assert found == pytest.approx(np.sqrt(whole.mean(axis=(2, 3, 4))), abs=1e-2)
    assert not np.concatenate([near for _, _, near in parts]).any()


def test_near_is_near_by_difference_and_by_contrast() -> None:
    bright = noise(1)  # its deviation is about 74: a difference of 10 is allowed
    dull = (bright // 16 + 100).astype(np.uint8)  # about 4.6: 0.9 is allowed

    def near(picture: np.ndarray, change: int) -> bool:
        changed = picture + change * np.resize([1, -1], picture.shape)
        return bool(next(distances(picture, np.clip(changed, 0, 255).astype(np.uint8)))[2][0, 0])

    bright = np.clip(bright, 20, 235)
    assert [near(bright, change) for change in (0, 9, 12)] == [True, True, False]
    assert [near(dull, change) for change in (0, 2, 9)] == [True, False, False]
    assert all(near(np.full((1, 16, 16, 3), grey, dtype=np.uint8), 0) for grey in range(256))  # flat, and the same
    slight = np.resize([200, 201], (1, 16, 16, 3)).astype(np.uint8)  # nearly flat: rounding is more than its limit
    assert near(slight, 0)


@pytest.mark.parametrize("chunk", [1, 10, 16_000_000])
def test_a_chain_of_near_duplicates_is_one_group(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(near_duplicates, "CHUNK", chunk)  # a row at a time, two, all
    first = np.clip(noise(1), 40, 215)
    step = 7 * np.resize([1, -1], first.shape)
    chain = [first, first + step, first + 2 * step]  # the ends differ by 14, too much
    other = noise(2, seed=3)
    groups = duplicate_groups(np.concatenate([chain[0], other[:1], chain[1], other[1:], chain[2]]).astype(np.uint8))
    assert groups[0] == groups[2] == groups[4]
    assert len(set(groups.tolist())) == 3


def clash(root: Path, **pictures: np.ndarray) -> str | None:
    """What is said of pictures in the class of their name's first letter."""
    samples = [Sample(f"{name[0]}/{name}.png", name[0]) for name in pictures]
    for sample, pixels in zip(samples, pictures.values(), strict=True):
        (root / sample.label).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(root / sample.path)
    thumbnails = read_thumbnails(root, [sample.path for sample in samples], cache="memory", cache_dir=root)
    return in_two_classes(samples, thumbnails, root)


def test_the_same_picture_in_two_classes_is_named(tmp_path: Path) -> None:
    one, two, three = noise(3)
    assert clash(tmp_path, a1=one, a2=one, b1=two, c1=three) is None  # twice in one class says nothing wrong
    assert clash(tmp_path, a1=one, a2=one, a3=two, b1=one, c1=three) == (
        "1 picture is in two classes, such as a/a1.png and b/b1.png: no model can be right about both; take the wrong "
        "one away"
    )
    line = clash(tmp_path, a1=three, b1=three, a2=two, b2=one, c1=two)
    assert line is not None
    assert line.startswith("2 pictures are in two classes, such as a/a1.png and b/b1.png: ")
    blank = np.zeros((16, 16, 3), dtype=np.uint8)
    assert clash(tmp_path, a1=blank, b1=blank) is not None  # nobody can tell which it is


def test_pictures_that_differ_by_a_scratch_are_not_the_same(tmp_path: Path) -> None:
    whole = np.full((320, 320, 3), 200, dtype=np.uint8)
    scratched = whole.copy()
    scratched[100, 100] = 150
    small = read_thumbnails
    assert clash(tmp_path, a1=whole, b1=scratched) is None
    same = small(tmp_path, ["a/a1.png", "b/b1.png"], cache="memory", cache_dir=tmp_path)
    assert (same[0] == same[1]).all()
    assert clash(tmp_path, a1=whole, b1=scratched, b2=whole) is not None


def test_of_very_many_alike_some_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "LOOKED_AT", 2)
    line = clash(tmp_path, a1=noise(1)[0], b1=noise(1)[0], a2=noise(1, 1)[0], b2=noise(1, 1)[0])
    assert line is not None
    assert line.startswith("at least 1 picture is in two classes, such as a/a1.png and b/b1.png: ")
