"""Labels from a CSV: what they change, what they leave alone, and what is refused."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vit_lightning.data.datamodule import ImageDataModule
from vit_lightning.data.sources import find_classes
from vit_lightning.data.splitting import Split


def split_of(root: Path, labels: Path | None, **changes: object) -> Split:
    settings: dict[str, object] = {"val_fraction": 0.2, "test_fraction": 0.2, "guard": 0}
    module = ImageDataModule(
        root=str(root),
        labels=None if labels is None else str(labels),
        **(settings | changes),  # type: ignore[arg-type]  # settings of many types
    )
    module.prepare_data()
    module.arrange("predict")
    return module.used_split


def table(folder: Path, *rows: str, name: str = "labels.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(["path,label", *rows]) + "\n", encoding="utf-8")
    return path


def parts(split: Split) -> dict[str, str]:
    return {sample.path: sample.split for sample in split.samples}


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Twenty pictures in no class folder: some right in the root, some in a folder."""
    root = tmp_path / "flat"
    (root / "clip").mkdir(parents=True)
    for number in range(20):
        folder = root if number % 2 else root / "clip"
        noise = np.random.default_rng(number).integers(0, 256, (8, 12, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"frame{number}.png")
    return root


def flat_rows(root: Path, *, last: str = "dog") -> list[str]:
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    rows = [f"{name},{('cat', 'dog')[index % 2]}" for index, name in enumerate(names[:-1])]
    return [*rows, f"{names[-1]},{last}"]


SPLITS: list[dict[str, object]] = [
    {"split": "random"},
    {"split": "random", "fold": "2/5", "test_fraction": 0.0},
    {"split": "blocks", "block_length": 2},
    {"split": "blocks", "block_length": 2, "fold": "1/3", "test_fraction": 0.0},
    {"split": "groups", "group_by": r"frame\d*(\d)\.png"},
    {"split": "groups", "group_by": "duplicates"},
]


@pytest.mark.parametrize("settings", SPLITS, ids=lambda settings: "-".join(map(str, settings.values())))
def test_a_correction_moves_no_picture_to_another_part(root: Path, tmp_path: Path, settings: dict[str, object]) -> None:
    """Neither one to a class that there is, nor many to a new one, which leaves another without any."""
    before = split_of(root, None, **settings)
    one = split_of(root, table(tmp_path, "ant/frame3.png,cow"), **settings)
    rows = [f"bee/frame{number}.png,wasp" for number in range(10, 20)]
    many = split_of(root, table(tmp_path, "ant/frame3.png,cow", *rows), **settings)
    assert parts(before) == parts(one) == parts(many)
    assert [sample.group for sample in before.samples] == [sample.group for sample in many.samples]
    assert {sample.path: sample.label for sample in one.samples}["ant/frame3.png"] == "cow"
    assert before.class_names == one.class_names == ("ant", "bee", "cow")
    assert many.class_names == ("ant", "cow", "wasp") == tuple(find_classes("folder", str(root), many.settings.labels))
    assert (
        len({split.data_id for split in (before, one, many)}) == len({split.id for split in (before, one, many)}) == 3
    )


@pytest.mark.parametrize("settings", SPLITS, ids=lambda settings: "-".join(map(str, settings.values())))
def test_a_correction_in_a_flat_folder_moves_none_either(
    flat: Path, tmp_path: Path, settings: dict[str, object]
) -> None:
    before = split_of(flat, table(tmp_path, *flat_rows(flat)), **settings)
    after = split_of(flat, table(tmp_path, *flat_rows(flat, last="bird")), **settings)
    assert parts(before) == parts(after)
    assert before.class_names == ("cat", "dog")
    assert after.class_names == ("bird", "cat", "dog")
    assert len(parts(after)) == 20


def test_a_subset_keeps_the_parts_and_counts_the_labels_as_corrected(root: Path, tmp_path: Path) -> None:
    rows = [f"bee/frame{number}.png,cow" for number in range(10, 16)]
    whole = parts(split_of(root, None))
    corrected = split_of(root, table(tmp_path, *rows), subset=5)
    assert Counter(sample.label for sample in corrected.samples) == {"ant": 5, "bee": 4, "cow": 5}
    assert all(whole[path] == part for path, part in parts(corrected).items())


def test_labels_that_change_nothing_change_nothing(root: Path, tmp_path: Path) -> None:
    plain, same = split_of(root, None), split_of(root, table(tmp_path, "ant/frame0.png,ant", "./bee/frame11.png,bee"))
    assert (plain.samples, plain.id, plain.data_id, plain.family) == (same.samples, same.id, same.data_id, same.family)
    fold = {"split": "random", "fold": "1/3", "test_fraction": 0.0}
    assert split_of(root, None, **fold).family == split_of(root, table(tmp_path), **fold).family


def test_a_file_of_parts_takes_corrected_labels(root: Path, tmp_path: Path) -> None:
    cut = table(tmp_path, name="split.csv")
    cut.write_text("path,label,split\nant/frame0.png,ant,train\nbee/frame10.png,bee,val\n", encoding="utf-8")
    split = split_of(root, table(tmp_path, "ant/frame0.png,gnat"), split=str(cut))
    assert [(sample.label, sample.split) for sample in split.samples] == [("gnat", "train"), ("bee", "val")]
    cut.write_text("path,label,split\nant/frame0.png,bee,train\ncow/frame20.png,cow,val\n", encoding="utf-8")
    rows = [f"bee/frame{number}.png,ant" for number in range(10, 20)]
    with pytest.raises(ValueError, match=r"ant/frame0\.png in the class bee, of which .* leaves no image"):
        split_of(root, table(tmp_path, *rows), split=str(cut))


def test_pictures_beside_the_class_folders_join_and_leave_the_others_where_they_are(root: Path, tmp_path: Path) -> None:
    before = parts(split_of(root, None))
    for number in range(40, 50):
        shutil.copy(root / "ant/frame0.png", root / f"frame{number}.png")
    rows = [f"frame{number}.png,ant" for number in range(40, 49)]
    after = parts(split_of(root, table(tmp_path, *rows)))
    assert before.items() <= after.items()
    assert len(after) == 39  # the one that has no label is left out
    assert {after[f"frame{number}.png"] for number in range(40, 49)} == {"train", "val", "test"}


def test_ready_made_parts_of_flat_folders_are_kept(flat: Path, tmp_path: Path) -> None:
    (flat / "clip").rename(flat / "test")
    (flat / "train").mkdir()
    for path in flat.glob("*.png"):
        path.rename(flat / "train" / path.name)
    split = split_of(flat, table(tmp_path, *flat_rows(flat)), val_fraction=0.0)
    assert split.kind == "folders"
    assert all(path.startswith(f"{part}/") for path, part in parts(split).items())
    assert split.sizes() == {"train": 10, "test": 10}


def test_ready_made_parts_of_class_folders_are_corrected(ready_made: Path, tmp_path: Path) -> None:
    before = split_of(ready_made, None)
    after = split_of(ready_made, table(tmp_path, "train/ant/frame0.png,bee", "test/bee/frame30.png,wasp"))
    assert parts(before) == parts(after)
    assert after.class_names == ("ant", "bee", "wasp")


def test_decoded_pictures_are_used_again(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def frames(labels: Path | None) -> ImageDataModule:
        file = None if labels is None else str(labels)
        module = ImageDataModule(root=str(root), labels=file, image_size=8, cache_dir=str(tmp_path / "cache"))
        module.prepare_data()
        module.setup("fit")
        return module

    frames(None)
    monkeypatch.setattr("vit_lightning.data.frames.read_frame", lambda *_: pytest.fail("decoded once more"))
    module = frames(table(tmp_path, *(f"ant/frame{number}.png,cow" for number in range(4))))
    assert module.used_split.counts()["train"]["cow"] > 9


def test_what_the_labels_do_is_told(root: Path, tmp_path: Path, told: list[tuple[str, str]]) -> None:
    shutil.copy(root / "ant/frame0.png", root / "stray.png")
    rows = [f"bee/frame{number}.png,wasp" for number in range(10, 20)]
    path = table(tmp_path, *rows, "ant/frame1.png,ant")
    split_of(root, path)
    lines = [line for _, line in told if "label" in line or str(path) in line]
    assert lines == [
        f"labels by {path}: 10 images of another label than the folder's; new classes: wasp",
        "no image is left in the folders bee by these labels: they are no classes any more",
        f"left out: 1 image in no class folder that {path} does not name",
    ]


def test_labels_that_are_no_folder_s_name_are_asked_about(
    root: Path, tmp_path: Path, told: list[tuple[str, str]]
) -> None:
    """As of a folder of clips, of which a few pictures have no label."""
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    split = split_of(root, table(tmp_path, *(f"{name},{('x', 'y')[k % 2]}" for k, name in enumerate(names[:-3]))))
    assert split.class_names == ("cow", "x", "y")
    assert any("3 images not named by" in line and "the folders' names are their classes" in line for _, line in told)


BAD = {
    "ant/frame0.png": r"line 2 of .* has too few cells",
    "ant/frame0.png,": r"line 2 of .*labels\.csv has no label for ant/frame0\.png",
    "ant/frame0.png,   ": r"line 2 of .* has no label for",
    "nowhere.png,ant": r"line 2 of .* names nowhere\.png, which is no image of the data in .*; is data\.root right",
    "notes.txt,ant": r"names notes\.txt, which is no image",
    "ant/../bee/frame10.png,ant": r"line 2 of .* names ant/\.\./bee/frame10\.png, which leads out of",
    "../secret.png,ant": r"line 2 .* leads out of",
    "/etc/passwd,ant": r"line 2 .* names /etc/passwd, which leads out of",
    "ant/frame0.png,bee\nant/frame1.png,bee\nant/frame0.png,cow": (
        r"line 4 of .* gives ant/frame0\.png the label cow, and line 2 bee"
    ),
    "ant/frame0.png,bee,more": r"line 2 of .* has too many cells",
}


@pytest.mark.parametrize("row", BAD)
def test_a_broken_row_is_named_with_its_line(root: Path, tmp_path: Path, row: str) -> None:
    (root / "notes.txt").write_text("no picture", encoding="utf-8")
    shutil.copy(root / "ant/frame0.png", tmp_path / "secret.png")
    with pytest.raises(ValueError, match=BAD[row]):
        split_of(root, table(tmp_path, row))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has the columns nothing; expected path,label"),
        ("path,class\nant/frame0.png,bee\n", "has the columns path,class; expected path,label"),
        ("ant/frame0.png,bee\n", "has the columns ant/frame0.png,bee; expected path,label"),
    ],
)
def test_a_file_that_is_none_is_refused(root: Path, tmp_path: Path, text: str, words: str) -> None:
    path = table(tmp_path)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        split_of(root, path)
    with pytest.raises(FileNotFoundError, match=r"the file of labels .*gone\.csv does not exist"):
        split_of(root, tmp_path / "gone.csv")
    with pytest.raises(ValueError, match=r"data\.labels is '.*labels\.txt'; expected a \.csv file"):
        split_of(root, tmp_path / "labels.txt")


def test_a_single_class_is_refused(root: Path, flat: Path, tmp_path: Path) -> None:
    names = [path.relative_to(root).as_posix() for path in root.rglob("*.png")]
    with pytest.raises(ValueError, match="there is only the class ant in"):
        split_of(root, table(tmp_path, *(f"{name},ant" for name in names)))
    with pytest.raises(ValueError, match="there is no class in"):
        split_of(flat, table(tmp_path))


def test_names_that_are_formulas_come_back(root: Path, tmp_path: Path) -> None:
    shutil.copy(root / "ant/frame0.png", root / "=x9.png")
    split = split_of(root, table(tmp_path, "./=x9.png,'=odd", "ant/frame1.png,'=odd"))
    assert {sample.path for sample in split.samples if sample.label == "=odd"} == {"=x9.png", "ant/frame1.png"}


def test_a_name_by_way_of_a_link_is_refused(root: Path, tmp_path: Path, draw: Callable[..., None]) -> None:
    """Under two names one picture might train and validate."""
    (root / "ant/again").symlink_to(root / "ant")
    with pytest.raises(ValueError, match=r"names ant/again/frame0\.png, which is no image"):
        split_of(root, table(tmp_path, "ant/again/frame0.png,bee"))
