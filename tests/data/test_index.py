"""The three layouts of a data folder, what counts as an image, and what is refused."""

from pathlib import Path

import pytest

from vit_lightning.data.index import Sample, find_layout, find_samples


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
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist; give the folder that holds the class"):
        find_layout(tmp_path / "nowhere")


def test_a_file_as_root_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "frames.zip")
    with pytest.raises(FileNotFoundError, match=r"frames.zip is a file; give the folder"):
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
