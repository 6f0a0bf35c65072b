"""The frozen `Split`: what is refused, what is left out, who trains and who is held out, and its identity."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vit_lightning.data.datamodule import ImageDataModule
from vit_lightning.data.splits import write_split
from vit_lightning.data.splitting import Split

CLASSES = ("ant", "bee", "cow")


def split_of(root: Path, stage: str = "fit", **changes: object) -> Split:
    settings: dict[str, object] = {"val_fraction": 0.2}
    module = ImageDataModule(root=str(root), **(settings | changes))  # type: ignore[arg-type]  # settings of many types
    module.prepare_data()
    module.arrange(stage)
    return module.used_split


# Refusals


@pytest.mark.parametrize("split", ["random", "blocks"])
def test_drawing_a_split_is_refused_where_one_is_ready_made(ready_made: Path, split: str) -> None:
    with pytest.raises(
        ValueError, match=rf"data\.split is {split}, but .* has ready-made .*; use --data\.split folders"
    ):
        split_of(ready_made, split=split)


def test_ready_made_folders_are_refused_where_there_are_none(root: Path) -> None:
    with pytest.raises(
        ValueError, match=rf"folders, but {root} has no train folder; use --data\.split random, blocks or groups"
    ):
        split_of(root, split="folders")


@pytest.mark.parametrize("split", ["randon", "split.txt", ""])
def test_an_unknown_split_is_refused(root: Path, split: str) -> None:
    with pytest.raises(
        ValueError, match=rf"data\.split is '{split}'; choose random, blocks, groups, folders or a \.csv file"
    ):
        split_of(root, split=split)


@pytest.mark.parametrize(("part", "missing"), [("train", "val"), ("val", "train")])
def test_a_split_without_a_part_that_is_needed_is_refused(root: Path, tmp_path: Path, part: str, missing: str) -> None:
    table = tmp_path / "split.csv"
    table.write_text(f"path,label,split\nant/frame0.png,ant,{part}\nbee/frame10.png,bee,{part}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"of {root} leaves no image for {missing}"):
        split_of(root, split=str(table))


def test_a_mistaken_split_is_told_before_a_picture_is_opened(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vit_lightning.data.scan.check_picture", lambda _: pytest.fail("opened"))
    for split in ("randon", "folders"):
        module = ImageDataModule(root=str(root), split=split)
        with pytest.raises(ValueError, match=r"data\.split is"):
            module.prepare_data()


@pytest.mark.parametrize(
    ("lacking", "words"), [(["cow"], "for the class cow; choose"), (["bee", "cow"], "for the classes bee, cow; choose")]
)
def test_a_class_without_a_training_image_is_refused(
    root: Path, tmp_path: Path, lacking: list[str], words: str
) -> None:
    """Its output would never be trained. To score or to predict, the split may be any."""
    lines = [
        f"{name}/frame{10 * k}.png,{name},{'val' if name in lacking else 'train'}" for k, name in enumerate(CLASSES)
    ]
    table = tmp_path / "split.csv"
    table.write_text("\n".join(["path,label,split", *lines]), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"split\.csv of {root} leaves no image to train on {words} another split"):
        split_of(root, split=str(table))
    for stage in ("validate", "test", "predict"):
        assert len(split_of(root, stage, split=str(table)).samples) == 3


def test_blocks_that_hold_a_whole_class_out_are_refused(draw: Callable[..., None], tmp_path: Path) -> None:
    """Three blocks, of which one is a class of its own; whichever is held out, a class is left without training."""
    draw(tmp_path / "film", *CLASSES)
    with pytest.raises(ValueError, match=r"the split blocks of .* leaves no image to train on for the class \w+;"):
        split_of(tmp_path / "film", split="blocks", val_fraction=0.3, block_length=10, guard=0)


def test_a_ready_made_class_without_training_images_is_refused(draw: Callable[..., None], ready_made: Path) -> None:
    draw(ready_made, "test/cow")
    with pytest.raises(ValueError, match=r"the split folders of .* leaves no image to train on for the class cow;"):
        split_of(ready_made)


def test_a_held_out_part_that_lacks_a_class_is_told(
    draw: Callable[..., None], ready_made: Path, told: list[tuple[str, str]]
) -> None:
    draw(ready_made, "train/cow", "val/ant", "train/dog")
    split_of(ready_made)
    ((level, message),) = told
    assert level == "WARNING"
    text = "leaves val without bee, cow, dog and test without cow, dog: scores there say nothing about these"
    assert text in message


def test_a_split_that_leaves_no_class_out_says_nothing(root: Path, told: list[tuple[str, str]]) -> None:
    split_of(root, test_fraction=0.2)
    split_of(root, val_fraction=0.0)
    assert told == []


# Unreadable files


BAD = ["ant/frame3.png", "bee/frame11.png", "cow/frame25.png"]


@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
def test_unreadable_files_end_the_command_with_a_list_of_them(damaged: Path, tmp_path: Path, stage: str) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(ValueError, match=f"^3 of 30 images in {damaged} cannot be read: ") as caught:
        split_of(damaged, stage, cache_dir=str(cache))
    text = str(caught.value)
    assert "ant/frame3.png (the file is empty), bee/frame11.png (" in text
    assert "cow/frame25.png (its content is no BMP" in text
    assert text.endswith("; mend them, take them away, or leave them out with --data.on_error skip")
    (table,) = (cache / "scans").glob("*.csv")
    assert f"; all are listed in {table};" in text
    lines = table.read_text(encoding="utf-8").splitlines()
    assert [line.partition(",")[0] for line in lines] == ["path", *BAD]
    assert lines[1] == "ant/frame3.png,the file is empty"


def test_of_many_unreadable_files_the_first_three_are_named(root: Path, tmp_path: Path) -> None:
    for number in range(5):
        (root / f"ant/frame{number}.png").write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"5 of 30 .*: ant/frame0\.png \(.*, ant/frame2\.png \(the file is empty\), \.\.\.;"
    ):
        split_of(root, cache_dir=str(tmp_path / "cache"))
    (table,) = (tmp_path / "cache/scans").glob("*.csv")
    assert len(table.read_text(encoding="utf-8").splitlines()) == 6


def test_a_cache_that_cannot_be_written_does_not_hide_the_error(damaged: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(ValueError, match=r"^3 of 30 images .* picture\); mend them"):
        split_of(damaged, cache_dir=str(tmp_path / "cache"))


def test_skipped_files_leave_before_the_split(damaged: Path, told: list[tuple[str, str]]) -> None:
    used = split_of(damaged, on_error="skip")
    assert list(used.unreadable) == BAD
    assert used.unreadable["ant/frame3.png"] == "the file is empty"
    ((level, message),) = told
    assert level == "WARNING"
    assert message.startswith(f"3 of 30 images in {damaged} cannot be read and are left out: ant/frame3.png (")
    counts = Counter((sample.label, sample.split) for sample in used.samples)
    assert counts == {(name, part): count for name in CLASSES for part, count in (("train", 7), ("val", 2))}
    assert not set(BAD) & {sample.path for sample in used.samples}
    assert used.describe() == "27 images, 3 classes, split random: train 21, val 6; 3 unreadable files left out"
    assert len(used.part("train")) == 21
    for path in BAD:  # the split is that of the good files alone
        (damaged / path).unlink()
    assert split_of(damaged).samples == used.samples


def test_skipped_files_leave_a_split_s_file_too(root: Path, tmp_path: Path) -> None:
    table = tmp_path / "split.csv"
    write_split(table, split_of(root).samples)
    (root / "ant/frame3.png").write_bytes(b"")
    (root / "bee/frame99.png").write_bytes(b"")  # of no concern: the file does not name it
    used = split_of(root, split=str(table), on_error="skip")
    assert list(used.unreadable) == ["ant/frame3.png"]
    assert len(used.samples) == 29
    with pytest.raises(ValueError, match=r"^1 of 30 images .*ant/frame3\.png \(the file is empty\); all"):
        split_of(root, split=str(table))


def test_a_class_of_which_nothing_can_be_read_is_refused(root: Path) -> None:
    for path in (root / "bee").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"the split random of .* leaves no image to train on for the class bee;"):
        split_of(root, on_error="skip")


def test_the_data_s_identity_is_that_of_the_listed_files(damaged: Path, root: Path) -> None:
    """Whether a file could be read changes the split, not the data that runs are compared by."""
    skipped = split_of(damaged, on_error="skip")
    for path in BAD:
        Image.new("RGB", (12, 8)).save(root / path)
    mended = split_of(root)
    assert mended.data_id == skipped.data_id
    assert mended.id != skipped.id
    assert mended.unreadable == {}


def test_wrongly_named_pictures_are_told_in_one_line_and_used(root: Path, told: list[tuple[str, str]]) -> None:
    (root / "ant/frame0.png").rename(root / "ant/frame0.jpg")
    (root / "bee/frame10.png").rename(root / "bee/frame10.gif")
    assert len(split_of(root).samples) == 30
    assert told == [("INFO", "read by content, not by name: 2 of 30 images, such as ant/frame0.jpg (PNG)")]


# Kinds of split


def test_left_out_the_split_is_random_or_the_ready_made_one(root: Path, ready_made: Path) -> None:
    assert split_of(root).kind == "random"
    assert split_of(ready_made).kind == "folders"


def test_random_takes_both_fractions(root: Path) -> None:
    used = split_of(root, split="random", val_fraction=0.2, test_fraction=0.3)
    assert [len(used.part(name)) for name in ("train", "val", "test")] == [15, 6, 9]
    assert used.describe() == "30 images, 3 classes, split random: train 15, val 6, test 9"


def test_blocks_take_length_and_guard(root: Path) -> None:
    draw_noise(root, {sample: seed for seed, sample in enumerate(sorted(root.rglob("*.png")))})
    used = split_of(root, split="blocks", val_fraction=0.2, test_fraction=0.2, block_length=6, guard=1)
    held = [[sample.number or 0 for sample in used.part(part)] for part in ("val", "test")]
    for numbers in held:
        assert numbers == list(range(numbers[0] // 6 * 6, numbers[0] // 6 * 6 + 6))
    near = {number + step for numbers in held for number in numbers for step in (-1, 0, 1)}
    assert {sample.number for sample in used.part("train")} == set(range(30)) - near


def draw_noise(root: Path, seeds: dict[Path, int]) -> None:
    """Pictures that look alike only where their seeds are the same."""
    for path, seed in seeds.items():
        pixels = np.random.default_rng(seed).integers(256, size=(8, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / path)


def test_a_clip_that_comes_again_does_not_train_where_it_is_held_out(root: Path) -> None:
    paths = {int(path.stem[5:]): path for path in root.rglob("*.png")}
    settings: dict[str, Any] = {"split": "blocks", "val_fraction": 0.2, "test_fraction": 0.2, "block_length": 6}
    seeds = {path: number for number, path in paths.items()}
    draw_noise(root, seeds)
    held = {sample.number or 0 for sample in split_of(root, guard=1, **settings).part("val")}
    first = next(number for number in (0, 6, 12, 18, 24) if number not in held and number - 6 not in held)
    again = {sample.number for sample in split_of(root, guard=1, **settings).part("train")} & set(
        range(first, first + 6)
    )
    repeat = max(number for number in again if number is not None)
    draw_noise(root, {paths[repeat]: min(held)})  # the held-out frame once more

    used = split_of(root, guard=1, **settings)
    kept = {sample.number for sample in used.part("train")}
    assert again - kept == {number for number in again if number is not None and abs(number - repeat) <= 1}
    without = split_of(root, guard=0, **settings)  # no guard, no looking
    assert repeat in {sample.number for sample in without.part("train")}


def test_a_clip_that_comes_again_does_not_validate_where_it_is_tested(root: Path, told: list[tuple[str, str]]) -> None:
    paths = {int(path.stem[5:]): path for path in root.rglob("*.png")}
    settings: dict[str, Any] = {"split": "blocks", "val_fraction": 0.2, "test_fraction": 0.2, "block_length": 6}
    draw_noise(root, {path: number for number, path in paths.items()})
    before = split_of(root, guard=1, **settings)
    told.clear()
    tested, validated = ([sample.number or 0 for sample in before.part(part)] for part in ("test", "val"))
    repeat = next(number for number in validated if {number - 1, number + 1} <= set(validated))
    draw_noise(root, {paths[repeat]: tested[0]})  # the test frame once more

    used = split_of(root, guard=1, **settings)
    assert used.part("test") == before.part("test")
    kept = {sample.number for sample in used.part("val")}
    assert set(validated) - kept == {repeat - 1, repeat, repeat + 1}
    path = paths[repeat].relative_to(root).as_posix()
    text = f"1 validation frames repeat a test one, such as {path}: with those around them, 3 do not validate"
    assert ("INFO", text) in told
    assert repeat in {sample.number for sample in split_of(root, guard=0, **settings).part("val")}


def test_groups_by_duplicates_hold_what_looks_alike_together(root: Path) -> None:
    paths = sorted(root.rglob("*.png"))
    draw_noise(root, {path: index // 3 for index, path in enumerate(paths)})
    used = split_of(root, split="groups", group_by="duplicates", val_fraction=0.2, test_fraction=0.2)
    parts: dict[str, set[str]] = {}
    for sample in used.samples:
        parts.setdefault(sample.group, set()).add(sample.split)
    assert len(parts) == 10
    assert all(len(names) == 1 for names in parts.values())
    assert Counter(sample.group for sample in used.samples) == dict.fromkeys(parts, 3)


def test_folds_test_every_image_once(root: Path) -> None:
    kinds: list[dict[str, Any]] = [{"split": "random"}, {"split": "blocks", "block_length": 3, "guard": 0}]
    for settings in kinds:
        tested: list[str] = []
        for number in range(1, 6):
            used = split_of(root, fold=f"{number}/5", val_fraction=0.2, **settings)
            tested += [sample.path for sample in used.part("test")]
            assert used.part("val")
            assert {sample.split for sample in used.samples} == {"train", "val", "test"}
        assert sorted(tested) == sorted(sample.path for sample in used.samples)


@pytest.mark.parametrize("fold", ["0/5", "6/5", "1/1", "2", "a/b", "-1/3", "1/2/3"])
def test_a_fold_that_is_none_is_refused(root: Path, fold: str) -> None:
    with pytest.raises(ValueError, match=r"data\.fold is .*; expected the number of a fold and how many"):
        split_of(root, fold=fold)


def test_group_by_goes_with_split_groups(root: Path) -> None:
    mismatched: list[dict[str, Any]] = [
        {"split": "groups"},
        {"group_by": "folder"},
        {"split": "random", "group_by": "x"},
    ]
    for settings in mismatched:
        with pytest.raises(ValueError, match="split groups goes with a group_by"):
            split_of(root, **settings)


def test_ready_made_folders_have_no_folds(ready_made: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.fold .* split folders has its parts"):
        split_of(ready_made, fold="1/2")


def test_a_ready_made_test_part_stays_and_validation_is_carved_from_training(ready_made: Path) -> None:
    used = split_of(ready_made, val_fraction=0.2)
    assert [len(used.part(name)) for name in ("train", "val", "test")] == [16, 4, 20]
    assert all(sample.path.startswith("test/") for sample in used.part("test"))


def test_another_seed_draws_another_split(root: Path) -> None:
    assert split_of(root, seed=1).samples == split_of(root, seed=1).samples
    assert split_of(root, seed=1).samples != split_of(root, seed=2).samples


def test_subset_keeps_so_many_images_a_class(root: Path) -> None:
    used = split_of(root, subset=5, val_fraction=0.2)
    assert Counter((sample.label, sample.split) for sample in used.samples) == {
        (label, part): count for label in CLASSES for part, count in (("train", 4), ("val", 1))
    }
    whole = split_of(root, val_fraction=0.2)
    assert set(used.samples) < set(whole.samples)  # drawn after splitting


def test_subset_is_drawn_by_the_seed(root: Path, tmp_path: Path) -> None:
    write_split(tmp_path / "split.csv", split_of(root).samples)
    one, again, other = (split_of(root, split=str(tmp_path / "split.csv"), subset=5, seed=seed) for seed in (7, 7, 8))
    assert one.samples == again.samples
    assert one.samples != other.samples


def test_a_split_s_file_repeats_it_though_images_have_come_since(root: Path, tmp_path: Path) -> None:
    used = split_of(root, seed=3, test_fraction=0.2)
    write_split(tmp_path / "split.csv", used.samples)
    Image.new("RGB", (12, 8)).save(root / "ant" / "frame99.png")
    again = split_of(root, split=str(tmp_path / "split.csv"), seed=4)
    assert again.samples == used.samples
    assert again.id == used.id
    assert again.data_id != used.data_id


def test_a_split_s_file_works_over_ready_made_folders_too(ready_made: Path, tmp_path: Path) -> None:
    used = split_of(ready_made)
    write_split(tmp_path / "split.csv", used.samples)
    assert split_of(ready_made, split=str(tmp_path / "split.csv")).samples == used.samples


def test_a_split_stays_as_it_was_made(root: Path) -> None:
    used = split_of(root)
    with pytest.raises(FrozenInstanceError):
        used.kind = "blocks"  # type: ignore[misc]  # that is what is tried
    assert isinstance(used.samples, tuple)


def test_what_is_known_of_a_split_worked_by_hand(root: Path, tmp_path: Path) -> None:
    table = tmp_path / "split.csv"
    rows = [("cow/frame20.png", "cow", "train"), ("ant/frame0.png", "ant", "train"), ("cow/frame27.png", "cow", "val")]
    table.write_text("\n".join(map(",".join, [("path", "label", "split"), *rows])), encoding="utf-8")
    used = split_of(root, "test", split=str(table))
    assert (used.kind, used.name, used.class_names) == ("csv", str(table), CLASSES)
    assert used.labels("train") == [2, 0]
    assert used.counts() == {"train": {"cow": 1, "ant": 1}, "val": {"cow": 1}}
    assert used.sizes() == {"train": 2, "val": 1}
    assert used.test_part == "val"
    assert used.describe() == f"3 images, 3 classes, split {table}: train 2, val 1"


def test_a_run_s_split_file_is_of_the_kind_that_its_record_says(root: Path, tmp_path: Path) -> None:
    """Those of older runs do not name the blocks."""
    write_split(tmp_path / "split.csv", split_of(root).samples)
    used = split_of(root, split=str(tmp_path / "split.csv"), block_length=4, group_by="folder")
    assert used.group_words == "groups by folder"
    blocks = used.made_as("blocks")
    assert (blocks.kind, blocks.group_words, blocks.id) == ("blocks", "blocks of 4 frames", used.id)
    assert {sample.group for sample in used.samples} == {""}
    assert [int(sample.group) for sample in blocks.samples] == [(sample.number or 0) // 4 for sample in used.samples]
    named = replace(used, samples=(replace(used.samples[0], group="9"),)).made_as("blocks")
    assert named.samples[0].group == "9"


# Identity


def test_same_images_and_same_split_share_their_identities(
    draw: Callable[..., None], root: Path, tmp_path: Path
) -> None:
    draw(tmp_path / "copy", *CLASSES)
    one, copy = split_of(root), split_of(tmp_path / "copy")
    assert re.fullmatch("[0-9a-f]{12}", one.data_id)
    assert re.fullmatch("[0-9a-f]{12}", one.id)
    assert (one.data_id, one.id) == (copy.data_id, copy.id)


def test_another_split_changes_the_split_s_identity_only(root: Path) -> None:
    splits = [split_of(root), split_of(root, seed=1), split_of(root, subset=5), split_of(root, test_fraction=0.2)]
    assert len({used.data_id for used in splits}) == 1
    assert len({used.id for used in splits}) == len(splits)


@pytest.mark.parametrize("change", ["added", "removed", "renamed", "relabelled"])
def test_other_images_change_the_data_s_identity(root: Path, change: str) -> None:
    before = split_of(root).data_id
    path = root / "ant" / "frame3.png"
    if change == "added":
        Image.new("RGB", (12, 8)).save(root / "ant" / "frame99.png")
    elif change == "removed":
        path.unlink()
    else:
        path.rename(root / "ant" / "frame77.png" if change == "renamed" else root / "bee" / "frame3.png")
    assert split_of(root).data_id != before
