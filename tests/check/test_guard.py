"""How far labels of frames agree, worked by hand, and the guard that is named for it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vit_lightning.check.guard import Agreement, Video, check_guard, find_videos
from vit_lightning.data.datamodule import ImageDataModule
from vit_lightning.data.index import Sample
from vit_lightning.data.splitting import Split

#: Classes of scenes, over and over: the next scene's is the same in one case of two, that of the one after never.
SCENES = "aabb"


def video(labels: list[int], numbers: list[int] | None = None) -> Video:
    return np.array(range(len(labels)) if numbers is None else numbers), np.array(labels)


def draw(root: Path, label: Callable[[int], str], *, count: int = 480, alike: bool = False) -> Path:
    """So many frames of noise, or of nothing, in the folders of their labels."""
    rng = np.random.default_rng(0)
    for number in range(count):
        folder = root / label(number)
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.zeros((8, 8, 3)) if alike else rng.integers(256, size=(8, 8, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"frame{number}.png")
    return root


def cut(number: int) -> str:
    """Scenes of four frames, which a border of blocks of 12 or 20 parts in the middle, as it comes."""
    return SCENES[(number + 2) // 4 % 4]


def blocks(root: Path, length: int, guard: int) -> Split:
    data = ImageDataModule(
        root=str(root), split="blocks", block_length=length, guard=guard, val_fraction=0.2, test_fraction=0.2
    )
    data.prepare_data()
    data.arrange("fit")
    return data.used_split


def test_agreement_worked_by_hand() -> None:
    found = Agreement([video([0, 0, 0, 0, 1, 1, 1, 1])], block_length=4)
    assert found.chance == 0.5
    assert not found.by_clip  # one border proves nothing
    assert [found.at(lag)[0] for lag in (1, 2, 3, 4)] == [6 / 7, 4 / 6, 2 / 5, 0]
    assert [found.near(lag) for lag in (1, 2, 3)] == [False, False, True]
    assert not found.knows(8)
    assert found.words(2, 8, 2) == "labels of two frames agree by chance in 50%, 2 apart in 67%"


def test_every_tenth_frame_is_held_against_the_next_that_is_far_enough() -> None:
    found = Agreement([video([0, 0, 1, 1], [0, 10, 20, 30])], block_length=40)
    assert [found.at(lag)[0] for lag in (1, 10, 11, 20)] == [2 / 3, 2 / 3, 0, 0]


def test_frames_of_two_videos_are_no_pairs() -> None:
    found = Agreement([video([0, 0, 0, 1]), video([1, 1])], block_length=40)
    assert (found.chance, found.at(1)[0], found.at(3)[0]) == (0.5, 3 / 4, 0)


def test_where_blocks_are_clips_pairs_across_a_border_count() -> None:
    labels = [int(SCENES[number // 4 % 4] == "b") for number in range(208)]
    clips = Agreement([video(labels)], block_length=4)
    assert clips.by_clip
    assert clips.at(1)[0] == 26 / 51  # 52 clips: 51 borders, of which every other parts two of one class
    # Two standard errors of as many coins; 3 apart there are three pairs at a border, which are as one.
    assert clips.at(1)[1] == pytest.approx(51**-0.5)
    assert clips.at(3)[1] == pytest.approx(51**-0.5)
    assert Agreement([video(labels)], block_length=208).at(1)[0] == (52 * 3 + 26) / 207
    shifted = [int(cut(number) == "b") for number in range(208)]
    assert not Agreement([video(shifted)], block_length=4).by_clip
    half = [
        int(SCENES[number // 4 % 4] == "b") for number in range(1000)
    ]  # borders at 6, 12, ...: every other is a cut
    assert not Agreement([video(half)], block_length=6).by_clip


def test_a_sequence_goes_by_name_where_numbers_repeat() -> None:
    def found(*paths: str) -> list[tuple[list[int], list[int]]]:
        samples = [Sample(f"set/{path}.png", path[0]) for path in paths]
        return [(numbers.tolist(), labels.tolist()) for numbers, labels in find_videos(samples, ("a", "b"), 2)]

    assert found("b/b_3", "a/a_0", "a/a_2", "b/b_1") == [([0, 1, 2, 3], [0, 1, 0, 1])]  # one, whatever the names
    two = [([0, 1], [0, 1]), ([0, 2], [0, 0])]
    assert found("a/ep1_frame0", "b/ep1_frame1", "a/ep2_frame2", "a/ep2_frame0") == two
    assert found("a/ep1/frame0", "b/ep1/frame1", "a/ep2/frame2", "a/ep2/frame0") == two
    assert found("a/frame0", "a/frame1", "b/frame0") == []  # the same number twice
    assert found("a/a_0", "a/a_1", "b/b_0", "b/b_1") == []  # each of one class


def test_the_guard_is_named_with_what_it_costs(tmp_path: Path) -> None:
    """A scene's 4 frames: 1 apart 0.875 agree, 2 apart 0.75, 3 apart 0.625, 5 apart 0.375."""
    root = draw(tmp_path / "set", cut)
    narrow, wide = blocks(root, 20, 2), blocks(root, 20, 5)
    finding = check_guard(narrow)
    before, after = (split.sizes()["train"] for split in (narrow, wide))
    assert (finding.level, finding.name) == ("warning", "guard")
    assert finding.text == (
        "2; labels of two frames agree by chance in 50%, 2 apart in 75%, 5 apart in 37%: raise --data.guard to 5 "
        f"({before - after} of {before} training frames fewer)"
    )
    assert before - after >= 2 * 3  # at either end of one block that is held out at least
    for guard in (5, 7):
        finding = check_guard(blocks(root, 20, guard))
        assert (finding.level, finding.text) == (
            "ok",
            f"{guard}; labels of two frames agree by chance in 50%, 5 apart in 37%",
        )
    assert check_guard(blocks(root, 20, 0)).text.startswith(
        "0; labels of two frames agree by chance in 50%, 1 apart in"
    )


def test_a_guard_takes_at_most_a_quarter_of_a_block(tmp_path: Path) -> None:
    root = draw(tmp_path / "set", cut)
    finding = check_guard(blocks(root, 12, 1))
    assert finding.level == "warning"
    assert "raise --data.guard to 3, a quarter of a block (" in finding.text
    assert finding.text.endswith("fewer), or rather set --data.block_length 20 --data.guard 5")
    finding = check_guard(blocks(root, 12, 3))  # as wide as it should be
    assert finding.level == "warning"
    assert finding.text.endswith("5 apart in 37%: set --data.block_length 20 --data.guard 5")
    assert check_guard(blocks(root, 12, 5)).level == "ok"


def test_clips_that_have_nothing_to_do_with_one_another_need_no_guard(tmp_path: Path) -> None:
    root = draw(tmp_path / "set", lambda number: SCENES[number // 4 % 4])
    finding = check_guard(blocks(root, 4, 0))
    assert finding.level == "ok"
    assert finding.text == "0; labels of two frames agree by chance in 50%, 1 apart in 50% across the blocks' borders"


def test_numbers_that_go_by_class_are_said_to(tmp_path: Path) -> None:
    root = draw(tmp_path / "set", lambda number: "ab"[number // 240])
    finding = check_guard(blocks(root, 20, 5))
    assert finding.level == "warning"
    assert finding.text == (
        "5; labels of two frames agree by chance in 50%, 5 apart in 99%, 10 apart in 98%: raise --data.block_length "
        "or, if numbers go by class, take another --data.split"
    )


def test_numbers_that_repeat_in_every_class_are_not_measured(tmp_path: Path) -> None:
    for label in "ab":
        draw(tmp_path / "set" / label, lambda _: "clip", count=40)
    finding = check_guard(blocks(tmp_path / "set", 4, 0))
    assert finding.level == "warning"
    assert finding.text.startswith("not measured: frame numbers repeat")
    assert finding.text.endswith("--data.split groups --data.group_by folder")


def test_a_guard_that_leaves_nothing_is_said_to(tmp_path: Path) -> None:
    """All frames are alike, and with a guard those that repeat a held-out one go."""
    finding = check_guard(blocks(draw(tmp_path / "set", cut, alike=True), 20, 0))
    assert finding.text.endswith("raise --data.guard to 5 (which leaves nothing to train or to validate on)")
