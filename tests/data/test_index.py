"""The three layouts of a data folder, what counts as an image, and what is refused."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from vit_lightning.data.index import Sample, find_layout, find_samples, images_below


def touch(root: Path, *paths: str) -> None:
    """Empty files: the index opens none."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def index(root: Path) -> list[tuple[str, str, str]]:
    """(path, label, part) of everything that is found."""
    return [(sample.path, sample.label, sample.split) for sample in find_samples(root, find_layout(root))]


def test_class_folders_directly_below_the_root(tmp_path: Path) -> None:
    touch(tmp_path, "dog/1.jpg", "cat/2.jpg", "cat/1.jpg", "ant/1.jpg")
    layout = find_layout(tmp_path)
    assert not layout.ready_made
    assert layout.classes == ["ant", "cat", "dog"]
    assert index(tmp_path) == [
        ("ant/1.jpg", "ant", ""),
        ("cat/1.jpg", "cat", ""),
        ("cat/2.jpg", "cat", ""),
        ("dog/1.jpg", "dog", ""),
    ]


@pytest.mark.parametrize("nest", ["tom_and_jerry", "tom_and_jerry/tom_and_jerry", "a/b/c"])
def test_class_folders_below_folders_that_hold_nothing_else(tmp_path: Path, nest: str) -> None:
    touch(tmp_path, f"{nest}/tom/frame1.jpg", f"{nest}/jerry/frame0.jpg", "ground_truth.csv")
    assert find_layout(tmp_path).classes == ["jerry", "tom"]
    assert index(tmp_path) == [(f"{nest}/jerry/frame0.jpg", "jerry", ""), (f"{nest}/tom/frame1.jpg", "tom", "")]


def test_drawn_frames_have_kaggle_s_layout(frames: Path) -> None:
    layout = find_layout(frames)
    assert layout.classes == ["jerry", "tom", "tom_jerry_0", "tom_jerry_1"]
    samples = find_samples(frames, layout)
    assert sorted(sample.number or 0 for sample in samples) == list(range(96))
    assert {sample.path.rpartition("/")[0] for sample in samples} == {
        f"tom_and_jerry/tom_and_jerry/{name}" for name in layout.classes
    }


@pytest.mark.parametrize(
    ("folder", "part"),
    [
        ("val", "val"),
        ("valid", "val"),
        ("validation", "val"),
        ("VALIDATION", "val"),
        ("Val", "val"),
        ("test", "test"),
        ("TEST", "test"),
    ],
)
def test_ready_made_parts_go_by_their_usual_names(tmp_path: Path, folder: str, part: str) -> None:
    touch(tmp_path, f"{folder}/b/3.png", f"{folder}/a/4.png", "Train/b/1.png", "Train/a/2.png")
    assert find_layout(tmp_path).ready_made
    assert set(index(tmp_path)) == {
        ("Train/a/2.png", "a", "train"),
        ("Train/b/1.png", "b", "train"),
        (f"{folder}/a/4.png", "a", part),
        (f"{folder}/b/3.png", "b", part),
    }


def test_ready_made_parts_may_be_nested_and_lack_classes(tmp_path: Path) -> None:
    touch(tmp_path, "set/train/b/1.png", "set/train/c/1.png", "set/val/b/2.png", "set/test/a/3.png")
    assert find_layout(tmp_path).classes == ["a", "b", "c"]
    assert {(label, part) for _, label, part in index(tmp_path)} == {
        ("b", "train"),
        ("c", "train"),
        ("b", "val"),
        ("a", "test"),
    }


def test_without_a_train_folder_val_and_test_are_classes(tmp_path: Path) -> None:
    touch(tmp_path, "val/1.png", "test/1.png")
    assert not find_layout(tmp_path).ready_made
    assert find_layout(tmp_path).classes == ["test", "val"]


def test_hidden_and_other_files_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg")
    others = ("a/.2.jpg", "a/._3.jpg", "a/notes.txt", "a/jpg", "a/4.jpg.part", "b/Thumbs.db", "5.jpg", "list.csv")
    touch(tmp_path, *others, ".git/6.jpg", "__MACOSX/a/7.jpg", "__pycache__/8.jpg")
    assert find_layout(tmp_path).classes == ["a", "b"]
    assert [path for path, _, _ in index(tmp_path)] == ["a/1.jpg", "b/1.jpg"]


@pytest.mark.parametrize("folder", [".ipynb_checkpoints", ".thumbnails", "more/.cache"])
def test_hidden_folders_within_a_class_are_left_out(tmp_path: Path, folder: str) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg", f"a/{folder}/1.jpg")
    assert [path for path, _, _ in index(tmp_path)] == ["a/1.jpg", "b/1.jpg"]


def test_a_folder_named_like_an_image_is_none(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "a/album.jpg/2.jpg", "b/1.jpg")
    assert [path for path, _, _ in index(tmp_path)] == ["a/1.jpg", "a/album.jpg/2.jpg", "b/1.jpg"]


@pytest.mark.parametrize("suffix", ["jpg", "JPG", "jpeg", "Jpeg", "png", "bmp", "gif", "tif", "tiff", "webp"])
def test_usual_image_formats_are_found(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path, f"a/1.{suffix}", f"b/1.{suffix}")
    assert len(index(tmp_path)) == 2


def test_sub_folders_of_a_class_belong_to_it(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "a/2024/may/2.jpg", "a/2023/3.jpg", "b/only/4.jpg")
    assert find_layout(tmp_path).classes == ["a", "b"]
    assert index(tmp_path) == [
        ("a/1.jpg", "a", ""),
        ("a/2023/3.jpg", "a", ""),
        ("a/2024/may/2.jpg", "a", ""),
        ("b/only/4.jpg", "b", ""),
    ]


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ([], "the class b"),
        (["b/1.heic", "b/deep/2.HEIC", "b/notes.txt", "b/.hidden"], r"the class b \(2 \.heic files, 1 \.txt file\)"),
        (["b/.ipynb_checkpoints/1.jpg", "b/README"], "the class b"),
    ],
)
def test_a_class_without_images_is_refused_by_name(tmp_path: Path, others: list[str], words: str) -> None:
    touch(tmp_path, "a/1.jpg", "c/1.jpg", *others)
    (tmp_path / "b").mkdir(exist_ok=True)
    message = rf"^no image in {tmp_path} for {words} \(looked for \.bmp, .*, \.webp\); put images into the folder, or"
    with pytest.raises(ValueError, match=message):
        index(tmp_path)


def test_many_classes_without_images_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", *(f"b{number}/1.heic" for number in range(7)))
    named = ", ".join(rf"b{number} \(1 \.heic file\)" for number in range(5))
    with pytest.raises(ValueError, match=f"for the classes {named} and 2 more "):
        index(tmp_path)


def test_a_class_with_images_in_one_part_only_is_found(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.png", "train/b/1.png", "test/a/2.png")
    (tmp_path / "test/b").mkdir()
    assert [path for path, _, _ in index(tmp_path)] == ["test/a/2.png", "train/a/1.png", "train/b/1.png"]


def link(root: Path, name: str, target: str) -> None:
    """A symbolic link below the root, to a path as `os.symlink` takes it or below the root."""
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).symlink_to(root / target)


def test_links_to_folders_are_followed_within_a_class_too(tmp_path: Path) -> None:
    touch(tmp_path, "set/a/1.jpg", "set/b/1.jpg", "elsewhere/2.jpg", "elsewhere/deep/3.jpg")
    link(tmp_path, "set/a/more", "elsewhere")
    link(tmp_path, "set/b/deep/4.jpg", "elsewhere/2.jpg")
    assert [path for path, _, _ in index(tmp_path / "set")] == [
        "a/1.jpg",
        "a/more/2.jpg",
        "a/more/deep/3.jpg",
        "b/1.jpg",
        "b/deep/4.jpg",
    ]


@pytest.mark.parametrize("target", ["set", "set/a", "set/a/deep", "."])
def test_links_that_lead_back_are_not_followed(tmp_path: Path, target: str) -> None:
    touch(tmp_path, "set/a/1.jpg", "set/a/deep/2.jpg", "set/b/1.jpg")
    link(tmp_path, "set/a/deep/back", target)
    assert [path for path, _, _ in index(tmp_path / "set")] == ["a/1.jpg", "a/deep/2.jpg", "b/1.jpg"]


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    touch(tmp_path, "set/a/1.jpg", "set/b/1.jpg", "one/2.jpg", "other/3.jpg")
    link(tmp_path, "set/a/one", "one")
    link(tmp_path, "one/other", "other")
    link(tmp_path, "other/one", "one")
    link(tmp_path, "set/b/self.jpg", "set/b/self.jpg")
    paths = [path for path, _, _ in index(tmp_path / "set")]
    assert paths == ["a/1.jpg", "a/one/2.jpg", "a/one/other/3.jpg", "b/1.jpg"]


def test_of_several_ways_to_a_folder_its_own_or_the_first_link_counts(tmp_path: Path) -> None:
    touch(tmp_path, "set/a/z/1.jpg", "set/b/1.jpg", "elsewhere/2.jpg", "elsewhere/deep/3.jpg")
    link(tmp_path, "set/a/k", "set/a/z")
    for name in ("p", "m", "n"):
        link(tmp_path, f"set/a/{name}", "elsewhere")
    link(tmp_path, "set/a/l", "elsewhere/deep")
    paths = [path for path, _, _ in index(tmp_path / "set")]
    assert paths == ["a/l/3.jpg", "a/m/2.jpg", "a/z/1.jpg", "b/1.jpg"]


def test_a_link_to_another_class_gives_both_labels(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/2.jpg")
    link(tmp_path, "a/b", "b")
    link(tmp_path, "b/a", "a")
    assert [path for path, _, _ in index(tmp_path)] == ["a/1.jpg", "a/b/2.jpg", "b/2.jpg", "b/a/1.jpg"]


@pytest.mark.parametrize(
    ("others", "words"),
    [
        (["a/1.avif", "b/deep/2.AVIF", "a/3.txt", "a/.4.jpg"], "2 .avif files, 1 .txt file, 1 hidden file"),
        (
            ["a/1.x", "a/2.x", "a/3.y", "a/4.y", "a/5.z", "a/6.z", "a/7.w"],
            "2 .x files, 2 .y files, 2 .z files and 1 more",
        ),
        ([f"a/{number}.heic" for number in range(1200)], "1,200 .heic files"),
        (["a/.DS_Store", "a/Thumbs.db", "b/desktop.ini", "b/.git/1.jpg", "b/README", "list.csv"], None),
    ],
)
def test_what_is_left_out_is_told_in_numbers(
    tmp_path: Path, others: list[str], words: str | None, told: list[tuple[str, str]]
) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg", *others)
    find_samples(tmp_path, find_layout(tmp_path))
    assert told == []
    assert len(find_samples(tmp_path, find_layout(tmp_path), tell=True)) == 2
    assert [text for _, text in told] == ([f"left out: {words}"] if words else [])


def test_links_that_lead_nowhere_are_told_in_numbers(tmp_path: Path, told: list[tuple[str, str]]) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg")
    for name, target in (("a/2.jpg", "gone.jpg"), ("a/folder", "gone"), ("b/3.jpg", "b/3.jpg")):
        link(tmp_path, name, target)
    assert len(find_samples(tmp_path, find_layout(tmp_path), tell=True)) == 2
    assert told == [("INFO", "left out: 3 dangling links")]


@pytest.mark.parametrize("name", [".", "only", "only/a", "only/a/deep"])
def test_a_folder_that_may_not_be_looked_into_is_named(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "only/a/1.jpg", "only/a/deep/2.jpg", "only/b/1.jpg")
    locked = str(tmp_path / name)

    def refusing(look: Any) -> Any:  # root may look into every folder
        def refuse(path: Any) -> Any:
            if str(path).rstrip("/") == locked:
                raise PermissionError(errno.EACCES, "Permission denied", locked)
            return look(path)

        return refuse

    monkeypatch.setattr(os, "scandir", refusing(os.scandir))
    monkeypatch.setattr(os, "listdir", refusing(os.listdir))
    message = rf"^the folder {locked} cannot be looked through \(Permission denied\); allow it \(chmod u\+rx\), or take"
    with pytest.raises(PermissionError, match=message):
        index(tmp_path)
    with pytest.raises(PermissionError, match=message):
        list(images_below(tmp_path))


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("frame12.jpg", 12),
        ("tom/frame0.jpg", 0),
        ("tom/frame007.jpg", 7),
        ("12.png", 12),
        ("s01e02_frame345.jpg", 345),
        ("clip3_frame.jpg", 3),
        ("frame12.cut.jpg", 12),
        ("7/frame.jpg", None),
        ("tom_jerry_1/cover.jpg", None),
        ("frame.mp4.jpg", 4),
        ("frame.jp2", None),
    ],
)
def test_a_sample_s_number_is_the_last_in_its_file_s_name(path: str, number: int | None) -> None:
    assert Sample(path, "tom").number == number


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist; give the one that holds the class"):
        find_layout(tmp_path / "nowhere")


def test_a_file_as_root_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "frames.zip")
    with pytest.raises(FileNotFoundError, match=r"frames.zip is a file; give the one"):
        find_layout(tmp_path / "frames.zip")


@pytest.mark.parametrize("content", [(), ("1.jpg", "2.jpg"), (".git/1.jpg",)])
def test_a_root_without_folders_is_refused(tmp_path: Path, content: tuple[str, ...]) -> None:
    touch(tmp_path, *content)
    with pytest.raises(ValueError, match=f"no class folder in {tmp_path}; expected one folder a class"):
        find_layout(tmp_path)


@pytest.mark.parametrize("path", ["cats/1.jpg", "set/set/cats/1.jpg", "train/cats/1.jpg"])
def test_one_class_is_refused(tmp_path: Path, path: str) -> None:
    touch(tmp_path, path)
    with pytest.raises(ValueError, match=f"only the class cats in {tmp_path}; a classifier needs at least two"):
        index(tmp_path)


def test_classes_without_any_image_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "cats/1.heic", "dogs/notes.txt")
    with pytest.raises(ValueError, match=rf"no image in {tmp_path} for the classes cats \(1 \.heic file\), dogs"):
        index(tmp_path)


def test_two_folders_for_one_part_are_refused(tmp_path: Path) -> None:
    for part in ("train", "val", "valid"):
        (tmp_path / part / "cat").mkdir(parents=True)
    with pytest.raises(ValueError, match="two folders for one part: train, val, valid"):
        find_layout(tmp_path)


def test_a_digest_is_no_frame_number() -> None:
    assert Sample(f"a/frame{'0' * 17}12.jpg", "a").number is None
    assert Sample("a/frame123456789012345678.jpg", "a").number == 123456789012345678
