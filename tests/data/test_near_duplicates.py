"""Thumbnails, distances between all of them, and groups of those that look alike."""

from pathlib import Path

import numpy as np
import pytest

from vit_lightning.data import near_duplicates
from vit_lightning.data.images import load_image
from vit_lightning.data.near_duplicates import distances, duplicate_groups, read_thumbnails


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
