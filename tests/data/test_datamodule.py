"""Where the images come from, what is refused, and what the loaders of every stage deliver."""

import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from vit_lightning.cli import main
from vit_lightning.data import demo, kaggle
from vit_lightning.data.datamodule import EpochSampler, ImageDataModule, LabelledImages, draw_demo_once, find_classes
from vit_lightning.data.demo import draw_demo
from vit_lightning.data.splits import write_split

CLASSES = ("ant", "bee", "cow")


def draw(root: Path, *folders: str, count: int = 10) -> None:
    """So many pictures a folder, each left half black, right half of its own colour: its index, its folder's."""
    for k, folder in enumerate(folders):
        (root / folder).mkdir(parents=True)
        for index in range(count):
            image = Image.new("RGB", (12, 8))
            image.paste((100 + index, 50 * k, 200), (6, 0, 12, 8))
            image.save(root / folder / f"frame{index + count * k}.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten pictures of each of three classes."""
    draw(tmp_path / "set", *CLASSES)
    return tmp_path / "set"


@pytest.fixture
def ready_made(tmp_path: Path) -> Path:
    """Ten training and ten test pictures of two classes each."""
    draw(tmp_path / "parts", "train/ant", "train/bee", "test/ant", "test/bee")
    return tmp_path / "parts"


def data(root: Path | None, stage: str = "fit", **changes: object) -> ImageDataModule:
    settings: dict[str, object] = {"image_size": 8, "batch_size": 4, "num_workers": 0, "val_fraction": 0.2}
    module = ImageDataModule(root=root and str(root), **(settings | changes))  # type: ignore[arg-type]  # settings of many types
    module.prepare_data()
    module.setup(stage)
    return module


def identity(image: Tensor) -> tuple[int, int]:
    """The index and the folder that a picture's colours tell, wherever it was cropped and flipped."""
    right = image.amax(dim=(0, 1))
    return round(float(right[0])) - 100, round(float(right[1])) // 50


def contents(loader: DataLoader[tuple[Tensor, int]]) -> list[tuple[int, int, int]]:
    """Index, folder and label of all a loader's pictures."""
    return [
        (*identity(image), int(label)) for images, labels in loader for image, label in zip(images, labels, strict=True)
    ]


def single(
    loader: DataLoader[tuple[Tensor, int]] | list[DataLoader[tuple[Tensor, int]]],
) -> DataLoader[tuple[Tensor, int]]:
    assert isinstance(loader, DataLoader)
    return loader


# Sources


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
    assert module.class_names == list(CLASSES)
    assert find_classes(source, str(root)) == list(CLASSES)  # type: ignore[arg-type]  # settings of many types


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
    assert len(module.samples) == 96
    assert module.class_names == find_classes("kaggle", None)


def test_classes_are_known_before_anything_is_fetched(frames: Path) -> None:
    assert find_classes("kaggle", None) == find_classes("demo", None) == find_classes("folder", str(frames))


def test_a_home_folder_is_written_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(root.parent))
    assert find_classes("folder", "~/set") == list(CLASSES)
    assert data(Path("~/set"), cache_dir="~/cache").root == root
    assert ImageDataModule(source="demo", cache_dir="~/cache").demo_root == root.parent / "cache" / "demo-1"


def test_the_cache_folder_is_the_platform_s_unless_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / name))
    assert ImageDataModule().cache_dir == tmp_path / "vit_lightning"
    assert ImageDataModule(cache_dir="here").cache_dir == Path("here")


def test_demo_frames_are_drawn_into_the_cache_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    drawn: list[Path] = []

    def draw_few(root: Path, **settings: object) -> None:
        drawn.append(root)
        draw_demo(root, clips=24, size=(32, 32))

    monkeypatch.setattr(demo, "draw_demo", draw_few)
    monkeypatch.setattr(demo, "CLIPS", 24)
    first = data(None, source="demo", cache_dir=str(tmp_path))
    again = data(None, source="demo", cache_dir=str(tmp_path))
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

    monkeypatch.setattr("vit_lightning.data.datamodule.track", track)
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


# Refusals


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"val_fraction": -0.1}, "data.val_fraction is -0.1; a share lies in [0, 1)"),
        ({"val_fraction": 1.0}, "data.val_fraction is 1.0; a share lies in [0, 1)"),
        ({"test_fraction": -0.1}, "data.test_fraction is -0.1; a share lies in [0, 1)"),
        ({"test_fraction": 1.5}, "data.test_fraction is 1.5; a share lies in [0, 1)"),
        (
            {"val_fraction": 0.5, "test_fraction": 0.5},
            "data.val_fraction 0.5 and data.test_fraction 0.5 leave nothing to train on",
        ),
        ({"batch_size": 0}, "data.batch_size is 0; it has to be at least 1"),
        ({"block_length": 0}, "data.block_length is 0; it has to be at least 1"),
        ({"guard": -1}, "data.guard is -1; it has to be at least 0"),
        ({"subset": 0}, "data.subset is 0; it has to be at least 1"),
        ({"num_workers": -1}, "data.num_workers is -1; it has to be at least 0"),
    ],
)
def test_numbers_out_of_their_range_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        ImageDataModule(**settings)  # type: ignore[arg-type]  # settings of many types


def test_numbers_at_the_edge_of_their_range_are_taken() -> None:
    ImageDataModule(val_fraction=0.0, test_fraction=0.0, batch_size=1, block_length=1, guard=0, subset=1, num_workers=0)
    ImageDataModule(val_fraction=0.5, test_fraction=0.49)


@pytest.mark.parametrize("split", ["random", "blocks"])
def test_drawing_a_split_is_refused_where_one_is_ready_made(ready_made: Path, split: str) -> None:
    with pytest.raises(
        ValueError, match=rf"data\.split is {split}, but .* has ready-made .*; use --data\.split folders"
    ):
        data(ready_made, split=split)


def test_ready_made_folders_are_refused_where_there_are_none(root: Path) -> None:
    with pytest.raises(
        ValueError, match=rf"folders, but {root} has no train folder; use --data\.split random, blocks or groups"
    ):
        data(root, split="folders")


@pytest.mark.parametrize("split", ["randon", "split.txt", ""])
def test_an_unknown_split_is_refused(root: Path, split: str) -> None:
    with pytest.raises(
        ValueError, match=rf"data\.split is '{split}'; choose random, blocks, groups, folders or a \.csv file"
    ):
        data(root, split=split)


@pytest.mark.parametrize(("part", "missing"), [("train", "val"), ("val", "train")])
def test_a_split_without_a_part_that_is_needed_is_refused(root: Path, tmp_path: Path, part: str, missing: str) -> None:
    table = tmp_path / "split.csv"
    table.write_text(f"path,label,split\nant/frame0.png,ant,{part}\nbee/frame10.png,bee,{part}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"of {root} leaves no image for {missing}"):
        data(root, split=str(table))


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
        data(root, split=str(table))
    for stage in ("validate", "test", "predict"):
        assert len(data(root, stage, split=str(table)).samples) == 3


def test_blocks_that_hold_a_whole_class_out_are_refused(tmp_path: Path) -> None:
    """Three blocks, of which one is a class of its own; whichever is held out, a class is left without training."""
    draw(tmp_path / "film", *CLASSES)
    with pytest.raises(ValueError, match=r"the split blocks of .* leaves no image to train on for the class \w+;"):
        data(tmp_path / "film", split="blocks", val_fraction=0.3, block_length=10, guard=0)


def test_a_ready_made_class_without_training_images_is_refused(ready_made: Path) -> None:
    draw(ready_made, "test/cow")
    with pytest.raises(ValueError, match=r"the split folders of .* leaves no image to train on for the class cow;"):
        data(ready_made)


def test_a_held_out_part_that_lacks_a_class_is_told(ready_made: Path, told: list[tuple[str, str]]) -> None:
    draw(ready_made, "train/cow", "val/ant", "train/dog")
    data(ready_made)
    ((level, message),) = told
    assert level == "WARNING"
    text = "leaves val without bee, cow, dog and test without cow, dog: scores there say nothing about these"
    assert text in message


def test_a_split_that_leaves_no_class_out_says_nothing(root: Path, told: list[tuple[str, str]]) -> None:
    data(root, test_fraction=0.2)
    data(root, val_fraction=0.0)
    assert told == []


# Unreadable files


@pytest.fixture
def damaged(root: Path) -> Path:
    """Thirty files, of which three are no pictures."""
    (root / "ant/frame3.png").write_bytes(b"")
    (root / "cow/frame25.png").write_text("no picture")
    content = (root / "bee/frame11.png").read_bytes()
    (root / "bee/frame11.png").write_bytes(content[: len(content) // 2])
    return root


BAD = ["ant/frame3.png", "bee/frame11.png", "cow/frame25.png"]


@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
def test_unreadable_files_end_the_command_with_a_list_of_them(damaged: Path, tmp_path: Path, stage: str) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(ValueError, match=f"^3 of 30 images in {damaged} cannot be read: ") as caught:
        data(damaged, stage, cache_dir=str(cache))
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
        data(root, cache_dir=str(tmp_path / "cache"))
    (table,) = (tmp_path / "cache/scans").glob("*.csv")
    assert len(table.read_text(encoding="utf-8").splitlines()) == 6


def test_a_cache_that_cannot_be_written_does_not_hide_the_error(damaged: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(ValueError, match=r"^3 of 30 images .* picture\); mend them"):
        data(damaged, cache_dir=str(tmp_path / "cache"))


def test_skipped_files_leave_before_the_split(damaged: Path, told: list[tuple[str, str]]) -> None:
    module = data(damaged, on_error="skip")
    assert list(module.unreadable) == BAD
    assert module.unreadable["ant/frame3.png"] == "the file is empty"
    ((level, message),) = told
    assert level == "WARNING"
    assert message.startswith(f"3 of 30 images in {damaged} cannot be read and are left out: ant/frame3.png (")
    counts = Counter((sample.label, sample.split) for sample in module.samples)
    assert counts == {(name, part): count for name in CLASSES for part, count in (("train", 7), ("val", 2))}
    assert not set(BAD) & {sample.path for sample in module.samples}
    assert module.describe() == "27 images, 3 classes, split random: train 21, val 6; 3 unreadable files left out"
    assert len(contents(module.train_dataloader())) == 21
    for path in BAD:  # the split is that of the good files alone
        (damaged / path).unlink()
    assert data(damaged).samples == module.samples


def test_skipped_files_leave_a_split_s_file_too(root: Path, tmp_path: Path) -> None:
    table = tmp_path / "split.csv"
    write_split(table, data(root).samples)
    (root / "ant/frame3.png").write_bytes(b"")
    (root / "bee/frame99.png").write_bytes(b"")  # of no concern: the file does not name it
    module = data(root, split=str(table), on_error="skip")
    assert list(module.unreadable) == ["ant/frame3.png"]
    assert len(module.samples) == 29
    with pytest.raises(ValueError, match=r"^1 of 30 images .*ant/frame3\.png \(the file is empty\); all"):
        data(root, split=str(table))


def test_a_class_of_which_nothing_can_be_read_is_refused(root: Path) -> None:
    for path in (root / "bee").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"the split random of .* leaves no image to train on for the class bee;"):
        data(root, on_error="skip")


def test_the_data_s_identity_is_that_of_the_listed_files(damaged: Path, root: Path) -> None:
    """Whether a file could be read changes the split, not the data that runs are compared by."""
    skipped = data(damaged, on_error="skip")
    for path in BAD:
        Image.new("RGB", (12, 8)).save(root / path)
    mended = data(root)
    assert mended.data_id == skipped.data_id
    assert mended.split_id != skipped.split_id
    assert mended.unreadable == {}


def test_to_predict_held_out_images_none_leaves_and_none_ends_it(damaged: Path) -> None:
    """Those that cannot be read come with the reason and a black image, so that the others get their label."""
    module = data(damaged, "predict", val_fraction=0.5)
    assert len(module.samples) == 30
    held_out = {str(damaged / sample.path) for sample in module.part("val")}
    bad = {str(damaged / path) for path in BAD} & held_out
    found = {
        path: (reason, identity(image))
        for images, paths, reasons in module.predict_dataloader()
        for image, path, reason in zip(images, paths, reasons, strict=True)
    }
    assert bad
    assert set(found) == held_out
    for path, (reason, (index, folder)) in found.items():
        if path in bad:
            assert reason != ""
        else:
            assert reason == ""
            assert path.endswith(f"{CLASSES[folder]}/frame{index + 10 * folder}.png")


@pytest.mark.parametrize("workers", [0, 1])
def test_predict_gets_a_whole_batch_of_unreadable_files(damaged: Path, workers: int) -> None:
    module = ImageDataModule(image_size=8, batch_size=2, num_workers=workers)
    module.predict_paths = [*(damaged / path for path in BAD[:2]), damaged / "ant/frame0.png", damaged / "gone.png"]
    first, second = module.predict_dataloader()
    for images, paths, reasons in (first, second):
        assert images.shape == (2, 8, 8, 3)
        assert len(paths) == len(reasons) == 2
    assert first[2][0] == "the file is empty"
    assert first[2][1] != ""
    assert list(second[2]) == ["", "No such file or directory"]


def test_preparing_opens_the_pictures_and_keeps_nothing_in_the_module(
    damaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning prepares in one process of a node and sets up in all: only the cache folder's memory gets across."""
    cache = str(tmp_path / "cache")
    module = ImageDataModule(root=str(damaged), on_error="skip", cache_dir=cache)
    before = repr(sorted(vars(module).items()))
    module.prepare_data()
    assert repr(sorted(vars(module).items())) == before
    monkeypatch.setattr("vit_lightning.data.scan.check_picture", lambda _: pytest.fail("opened again"))
    for _ in range(2):
        other = ImageDataModule(root=str(damaged), on_error="skip", cache_dir=cache)
        other.setup("fit")
        assert list(other.unreadable) == BAD
    monkeypatch.setattr("vit_lightning.data.datamodule.find_samples", lambda *_: pytest.fail("listed again"))
    other.prepare_data()  # as the Trainer does once more


def test_wrongly_named_pictures_are_told_in_one_line_and_used(root: Path, told: list[tuple[str, str]]) -> None:
    (root / "ant/frame0.png").rename(root / "ant/frame0.jpg")
    (root / "bee/frame10.png").rename(root / "bee/frame10.gif")
    assert len(data(root).samples) == 30
    assert told == [("INFO", "read by content, not by name: 2 of 30 images, such as ant/frame0.jpg (PNG)")]


def test_what_is_done_with_unreadable_files_is_saved_with_the_run() -> None:
    assert ImageDataModule().hparams["on_error"] == "raise"
    assert ImageDataModule(on_error="skip").hparams["on_error"] == "skip"


# From the command line


@pytest.mark.parametrize(
    ("files", "arguments", "words"),
    [
        ("a/frame0.png:x", [], ["1 of 9 images in", "a/frame0.png (its content is no BMP", "--data.on_error skip"]),
        ("a/frame0.png: b/frame3.png:", [], ["2 of 9 images", "a/frame0.png (the file is empty), b/frame3.png ("]),
        ("d/1.heic:x d/2.heic:x", [], ["no image in", "for the class d (2 .heic files)"]),
        ("split.csv:path,label,split", ["--data.split=split.csv"], ["leaves no image for train"]),
        ("split.csv:", ["--data.split=split.csv"], ["has the columns nothing; expected path,label,split"]),
        ("split.csv:path,part", ["--data.split=split.csv"], ["has the columns path,part; expected path,label,split"]),
        ("split.csv:\xff\xfe", ["--data.split=split.csv"], ["is no CSV in UTF-8"]),
        ("split.csv:path,label,split\na/frame0.png", ["--data.split=split.csv"], ["line 2", "too few cells"]),
        ("split.csv:path,label,split\n/x.png,a,val", ["--data.split=split.csv"], ["/x.png, which leads out of"]),
        ("split.csv:path,label,split\na/../../x.png,a,val", ["--data.split=split.csv"], ["which leads out of"]),
        ("split.csv:path,label,split\na/frame0.png,z,val", ["--data.split=split.csv"], ["the class 'z'", "a, b, c"]),
        ("split.csv:path,label,split\na/no.png,a,val", ["--data.split=split.csv"], ["a/no.png, which is not in"]),
        (
            "split.csv:path,label,split\na/frame0.png,a,train\nb/frame3.png,b,train\nc/frame6.png,c,val",
            ["--data.split=split.csv"],
            ["leaves no image to train on for the class c"],
        ),
        (
            "",
            ["--data.split=blocks", "--data.block_length=3", "--data.guard=0"],
            ["no image to train on for the class"],
        ),
        ("", ["--data.subset=1"], ["subset 1 is too small for class a: 2 parts need an image each"]),
        ("", ["--model.class_names=[a,b]"], ["the model's classes are a, b", "the data's are a, b, c"]),
        ("", ["--model.num_classes=4"], ["num_classes is 4", "3 classes: a, b, c"]),
        ("", ["--data.root=set/a"], ["no class folder in", "set/a"]),
        ("one/only/1.png:x", ["--data.root=one"], ["only the class only in", "at least two"]),
    ],
)
def test_data_that_do_not_allow_training_are_one_line_and_no_run(
    files: str,
    arguments: list[str],
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    draw(Path("set"), "a", "b", "c", count=3)
    for file in filter(None, files.split(" ")):
        name, _, content = file.partition(":")
        path = Path(name) if name.startswith(("split", "one")) else Path("set", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode("latin-1"))
    settings = ["--data.root=set", "--data.cache_dir=cache", "--model.image_size=16", "--trainer.accelerator=cpu"]
    assert main(["fit", *settings, *arguments]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line
    assert "unexpected" not in line
    assert "Traceback" not in captured.out
    assert not Path("lightning_logs").exists()


def test_a_run_without_the_unreadable_files_is_scored_without_them(
    damaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its split.csv does not name them, so that they are of no concern later, not even where they would end it."""
    monkeypatch.chdir(tmp_path)
    settings = [
        f"--data.root={damaged}",
        "--data.cache_dir=cache",
        "--model.image_size=16",
        "--trainer.accelerator=cpu",
    ]
    tiny = ["--model.dim=16", "--model.depth=1", "--model.heads=2", "--trainer.max_epochs=1", "--data.val_fraction=0.2"]
    assert main(["fit", *settings, *tiny, "--run=one", "--data.on_error=skip"]) == 0
    assert "warning: 3 of 30 images in" in capsys.readouterr().out
    run = tmp_path / "lightning_logs/one"
    assert (
        "27 images, 3 classes, split random: train 21, val 6; 3 unreadable files left out"
        in (run / "run.log").read_text()
    )
    assert not any(path in (run / "split.csv").read_text() for path in BAD)
    assert main(["validate", "--run=one", "--data.on_error=raise"]) == 0
    out = capsys.readouterr().out
    assert "val images 6:" in out
    assert "warning" not in out


def test_a_picture_that_broke_after_the_scan_is_one_line_from_a_loader_process_too(
    tmp_path: Path, frames: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(frames, "set")
    data(Path("set"), cache_dir="cache")
    for path in Path("set").rglob("*.jpg"):  # of the same size and time: the scan takes them for seen
        status = path.stat()
        path.write_bytes(b"x" * status.st_size)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    settings = ["--data.root=set", "--data.cache_dir=cache", "--model.image_size=16", "--trainer.accelerator=cpu"]
    for workers in (0, 1):
        capsys.readouterr()
        assert main(["fit", *settings, f"--data.num_workers={workers}"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert re.fullmatch(r"error: \S+\.jpg cannot be read: its content is no BMP, .*; mend it or take it away", line)


# Splits


def test_left_out_the_split_is_random_or_the_ready_made_one(root: Path, ready_made: Path) -> None:
    assert data(root).split == "random"
    assert data(ready_made).split == "folders"


def test_random_takes_both_fractions(root: Path) -> None:
    module = data(root, split="random", val_fraction=0.2, test_fraction=0.3)
    assert [len(module.part(name)) for name in ("train", "val", "test")] == [15, 6, 9]
    assert module.describe() == "30 images, 3 classes, split random: train 15, val 6, test 9"


def test_blocks_take_length_and_guard(root: Path) -> None:
    draw_noise(root, {sample: seed for seed, sample in enumerate(sorted(root.rglob("*.png")))})
    module = data(root, split="blocks", val_fraction=0.2, test_fraction=0.2, block_length=6, guard=1)
    held = [[sample.number or 0 for sample in module.part(part)] for part in ("val", "test")]
    for numbers in held:
        assert numbers == list(range(numbers[0] // 6 * 6, numbers[0] // 6 * 6 + 6))
    near = {number + step for numbers in held for number in numbers for step in (-1, 0, 1)}
    assert {sample.number for sample in module.part("train")} == set(range(30)) - near


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
    held = {sample.number or 0 for sample in data(root, guard=1, **settings).part("val")}
    first = next(number for number in (0, 6, 12, 18, 24) if number not in held and number - 6 not in held)
    again = {sample.number for sample in data(root, guard=1, **settings).part("train")} & set(range(first, first + 6))
    repeat = max(number for number in again if number is not None)
    draw_noise(root, {paths[repeat]: min(held)})  # the held-out frame once more

    module = data(root, guard=1, **settings)
    kept = {sample.number for sample in module.part("train")}
    assert again - kept == {number for number in again if number is not None and abs(number - repeat) <= 1}
    without = data(root, guard=0, **settings)  # no guard, no looking
    assert repeat in {sample.number for sample in without.part("train")}


def test_groups_by_duplicates_hold_what_looks_alike_together(root: Path) -> None:
    paths = sorted(root.rglob("*.png"))
    draw_noise(root, {path: index // 3 for index, path in enumerate(paths)})
    module = data(root, split="groups", group_by="duplicates", val_fraction=0.2, test_fraction=0.2)
    parts: dict[str, set[str]] = {}
    for sample in module.samples:
        parts.setdefault(sample.group, set()).add(sample.split)
    assert len(parts) == 10
    assert all(len(names) == 1 for names in parts.values())
    assert Counter(sample.group for sample in module.samples) == dict.fromkeys(parts, 3)


def test_folds_test_every_image_once(root: Path) -> None:
    kinds: list[dict[str, Any]] = [{"split": "random"}, {"split": "blocks", "block_length": 3, "guard": 0}]
    for settings in kinds:
        tested: list[str] = []
        for number in range(1, 6):
            module = data(root, fold=f"{number}/5", val_fraction=0.2, **settings)
            tested += [sample.path for sample in module.part("test")]
            assert module.part("val")
            assert {sample.split for sample in module.samples} == {"train", "val", "test"}
        assert sorted(tested) == sorted(sample.path for sample in module.samples)


@pytest.mark.parametrize("fold", ["0/5", "6/5", "1/1", "2", "a/b", "-1/3", "1/2/3"])
def test_a_fold_that_is_none_is_refused(root: Path, fold: str) -> None:
    with pytest.raises(ValueError, match=r"data\.fold is .*; expected the number of a fold and how many"):
        data(root, fold=fold)


def test_group_by_goes_with_split_groups(root: Path) -> None:
    mismatched: list[dict[str, Any]] = [
        {"split": "groups"},
        {"group_by": "folder"},
        {"split": "random", "group_by": "x"},
    ]
    for settings in mismatched:
        with pytest.raises(ValueError, match="split groups goes with a group_by"):
            data(root, **settings)


def test_ready_made_folders_have_no_folds(ready_made: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.fold .* split folders has its parts"):
        data(ready_made, fold="1/2")


def test_a_ready_made_test_part_stays_and_validation_is_carved_from_training(ready_made: Path) -> None:
    module = data(ready_made, val_fraction=0.2)
    assert [len(module.part(name)) for name in ("train", "val", "test")] == [16, 4, 20]
    assert all(sample.path.startswith("test/") for sample in module.part("test"))


def test_another_seed_draws_another_split(root: Path) -> None:
    assert data(root, seed=1).samples == data(root, seed=1).samples
    assert data(root, seed=1).samples != data(root, seed=2).samples


def test_subset_keeps_so_many_images_a_class(root: Path) -> None:
    module = data(root, subset=5, val_fraction=0.2)
    assert Counter((sample.label, sample.split) for sample in module.samples) == {
        (label, part): count for label in CLASSES for part, count in (("train", 4), ("val", 1))
    }
    whole = data(root, val_fraction=0.2)
    assert set(module.samples) < set(whole.samples)  # drawn after splitting


def test_subset_is_drawn_by_the_seed(root: Path, tmp_path: Path) -> None:
    write_split(tmp_path / "split.csv", data(root).samples)
    one, again, other = (data(root, split=str(tmp_path / "split.csv"), subset=5, seed=seed) for seed in (7, 7, 8))
    assert one.samples == again.samples
    assert one.samples != other.samples


def test_a_split_s_file_repeats_it_though_images_have_come_since(root: Path, tmp_path: Path) -> None:
    module = data(root, seed=3, test_fraction=0.2)
    write_split(tmp_path / "split.csv", module.samples)
    Image.new("RGB", (12, 8)).save(root / "ant" / "frame99.png")
    again = data(root, split=str(tmp_path / "split.csv"), seed=4)
    assert again.samples == module.samples
    assert again.split_id == module.split_id
    assert again.data_id != module.data_id


def test_a_split_s_file_works_over_ready_made_folders_too(ready_made: Path, tmp_path: Path) -> None:
    module = data(ready_made)
    write_split(tmp_path / "split.csv", module.samples)
    assert data(ready_made, split=str(tmp_path / "split.csv")).samples == module.samples


def test_set_up_twice_is_set_up_once(root: Path) -> None:
    module = data(root)
    before = list(module.samples)
    (root / "ant" / "frame0.png").unlink()
    module.setup("test")
    assert module.samples == before


# Identity


def test_same_images_and_same_split_share_their_identities(root: Path, tmp_path: Path) -> None:
    draw(tmp_path / "copy", *CLASSES)
    one, copy = data(root), data(tmp_path / "copy")
    assert re.fullmatch("[0-9a-f]{12}", one.data_id)
    assert re.fullmatch("[0-9a-f]{12}", one.split_id)
    assert (one.data_id, one.split_id) == (copy.data_id, copy.split_id)


def test_another_split_changes_the_split_s_identity_only(root: Path) -> None:
    modules = [data(root), data(root, seed=1), data(root, subset=5), data(root, test_fraction=0.2)]
    assert len({module.data_id for module in modules}) == 1
    assert len({module.split_id for module in modules}) == len(modules)


@pytest.mark.parametrize("change", ["added", "removed", "renamed", "relabelled"])
def test_other_images_change_the_data_s_identity(root: Path, change: str) -> None:
    before = data(root).data_id
    path = root / "ant" / "frame3.png"
    if change == "added":
        Image.new("RGB", (12, 8)).save(root / "ant" / "frame99.png")
    elif change == "removed":
        path.unlink()
    else:
        path.rename(root / "ant" / "frame77.png" if change == "renamed" else root / "bee" / "frame3.png")
    assert data(root).data_id != before


# Loaders


def test_training_batches_have_their_shapes_and_types(root: Path) -> None:
    module = data(root, image_size=(8, 14), batch_size=5)
    batches = list(module.train_dataloader())
    assert [tuple(images.shape) for images, _ in batches] == [*[(5, 8, 14, 3)] * 4, (4, 8, 14, 3)]
    for images, labels in batches:
        assert images.dtype == torch.uint8
        assert labels.dtype == torch.int64
        assert labels.shape == images.shape[:1]


@pytest.mark.parametrize("augment", ["none", "light"])
def test_every_image_is_loaded_once_with_its_folder_s_label(root: Path, augment: str) -> None:
    module = data(root, augment=augment, test_fraction=0.1)
    loaders = (module.train_dataloader(), single(module.val_dataloader()), module.test_dataloader())
    found = [picture for loader in loaders for picture in contents(loader)]
    assert sorted(found) == sorted((index, folder, folder) for folder in range(3) for index in range(10))


def test_labels_follow_all_classes_where_a_part_lacks_some(tmp_path: Path) -> None:
    draw(tmp_path, "train/ant", "train/bee", "val/bee", "train/cow")
    module = data(tmp_path, augment="none")
    assert {(folder, label) for _, folder, label in contents(single(module.val_dataloader()))} == {(2, 1)}
    assert {(folder, label) for _, folder, label in contents(module.train_dataloader())} == {(0, 0), (1, 1), (3, 2)}


def test_validation_and_test_come_in_order_and_the_same_each_time(root: Path) -> None:
    module = data(root, augment="trivial", val_fraction=0.4, test_fraction=0.3)
    for part, loader in (("val", single(module.val_dataloader())), ("test", module.test_dataloader())):
        numbers = [sample.number for sample in module.part(part)]
        assert [index + 10 * folder for index, folder, _ in contents(loader)] == numbers
        first, second = (torch.cat([images for images, _ in loader]) for _ in range(2))
        assert torch.equal(first, second)
        assert (first[:, :, 0, 2] < first[:, :, -1, 2]).all()  # black is on the left, as drawn
        assert len(first) == len(numbers)


def epoch_of(loader: DataLoader[tuple[Tensor, int]], epoch: int) -> tuple[Tensor, list[tuple[int, int, int]]]:
    """All images of an epoch in their order, and what is on them."""
    assert isinstance(loader.sampler, EpochSampler)
    loader.sampler.set_epoch(epoch)
    return torch.cat([images for images, _ in loader]), contents(loader)


def test_training_is_shuffled_and_augmented_anew_in_every_epoch(root: Path) -> None:
    loader = data(root, augment="light").train_dataloader()
    (first, order), (second, other_order) = epoch_of(loader, 0), epoch_of(loader, 1)
    assert order != sorted(order)
    assert order != other_order
    assert sorted(order) == sorted(other_order)
    assert 0 < (first[:, 0, 0, 2] > first[:, 0, -1, 2]).sum() < len(first)  # some are mirrored
    place = {picture: index for index, picture in enumerate(other_order)}
    same = [torch.equal(image, second[place[picture]]) for image, picture in zip(first, order, strict=True)]
    assert sum(same) < len(same) / 2  # cropped and mirrored anew


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_order_and_augmentation_depend_on_seed_epoch_and_image_alone(
    root: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Not on loader processes, on what else is drawn, or on how many devices share the images."""
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    expected, order = epoch_of(data(root).train_dataloader(), 3)
    torch.manual_seed(123)
    found, found_order = epoch_of(data(root, num_workers=workers).train_dataloader(), 3)
    assert torch.equal(found, expected)
    assert found_order == order
    shares = []
    for rank in (0, 1):
        module = data(root, num_workers=workers)
        module.trainer = SimpleNamespace(world_size=2, global_rank=rank)  # type: ignore[assignment]  # a stand-in
        shares.append(epoch_of(module.train_dataloader(), 3)[0])
    assert torch.equal(torch.stack(shares, dim=1).flatten(0, 1), expected)


def test_no_seed_repeats_the_orders_of_another() -> None:
    """As those of seed + epoch would."""
    orders = []
    for seed in (7, 8):
        sampler = EpochSampler(range(30), num_replicas=1, rank=0, seed=seed)  # type: ignore[arg-type]  # has a length
        for epoch in (2, 3):
            sampler.set_epoch(epoch)
            orders.append(tuple(index for _, index in sampler))
    assert len(set(orders)) == 4
    assert all(sorted(order) == list(range(30)) for order in orders)


def test_an_epoch_under_way_keeps_its_number(root: Path) -> None:
    """Lightning sets the next one while loader processes may still be asking."""
    sampler = data(root).train_dataloader().sampler
    assert isinstance(sampler, EpochSampler)
    under_way = iter(sampler)
    next(under_way)
    sampler.set_epoch(5)
    assert {epoch for epoch, _ in under_way} == {0}


def test_scoring_before_training_changes_nothing(root: Path) -> None:
    module = data(root, "validate", augment="trivial")
    module.setup("fit")
    assert [tuple(frame.shape) for frame in (module.frames["train"][0], module.frames["val"][0])] == [
        (8, 10, 3),  # room for a crop, as far as the picture has it
        (8, 8, 3),
    ]


@pytest.mark.parametrize("cache", ["disk", "memory", "none"])
def test_training_images_are_the_same_before_and_after_they_are_kept(root: Path, cache: str) -> None:
    module = data(root, "test", augment="trivial", cache=cache)
    before, order = epoch_of(module.train_dataloader(), 0)
    module.setup("fit")
    after, same_order = epoch_of(module.train_dataloader(), 0)
    assert order == same_order
    assert torch.equal(before, after)


@pytest.mark.parametrize("augment", ["trivial", "light", "article", "none"])
@pytest.mark.parametrize("cache", ["disk", "memory"])
def test_batches_from_a_cache_are_those_from_the_files_to_the_bit(root: Path, cache: str, augment: str) -> None:
    kept, read = (data(root, cache=kind, augment=augment) for kind in (cache, "none"))
    for one, other in zip(
        (kept.train_dataloader(), single(kept.val_dataloader())),
        (read.train_dataloader(), single(read.val_dataloader())),
        strict=True,
    ):
        for (images, labels), (their_images, their_labels) in zip(one, other, strict=True):
            assert torch.equal(images, their_images)
            assert torch.equal(labels, their_labels)


def test_augmenting_leaves_torch_s_own_numbers_as_they_were(root: Path) -> None:
    dataset = data(root).train_dataloader().dataset
    before = torch.get_rng_state()
    dataset[0]
    assert torch.equal(torch.get_rng_state(), before)


def test_only_what_is_looked_at_again_and_again_is_kept(root: Path) -> None:
    module = data(root, test_fraction=0.2)
    assert set(module.frames) == {"train", "val"}
    assert data(root, "test", test_fraction=0.2).frames == {}
    assert len(contents(module.test_dataloader())) == 6


def test_bytes_become_numbers_on_the_model_s_device(root: Path) -> None:
    module = data(root)
    images, labels = next(iter(single(module.val_dataloader())))
    numbers, same = module.on_after_batch_transfer([images, labels], 0)
    assert same is labels
    expected = (images / 255 - torch.tensor((0.485, 0.456, 0.406))) / torch.tensor((0.229, 0.224, 0.225))
    torch.testing.assert_close(numbers, expected.permute(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("settings", "trivial"), [({}, True), ({"augment": "light"}, False), ({"augment": "none"}, False)]
)
def test_training_takes_the_chosen_augmentation(root: Path, settings: dict[str, str], trivial: bool) -> None:
    dataset = data(root, **settings).train_dataloader().dataset
    assert isinstance(dataset, LabelledImages)
    assert ("TrivialAugmentWide" in str(dataset.transform)) == trivial


def test_no_validation_part_means_no_loader(root: Path) -> None:
    module = data(root, val_fraction=0.0, test_fraction=0.2)
    assert module.val_dataloader() == []
    assert len(contents(module.test_dataloader())) == 6


def test_test_falls_back_to_validation(root: Path) -> None:
    module = data(root)
    assert module.test_part == "val"
    assert contents(module.test_dataloader()) == contents(single(module.val_dataloader()))
    module = data(root, test_fraction=0.3)
    assert module.test_part == "test"
    assert len(contents(module.test_dataloader())) == 9


@pytest.mark.parametrize(("devices", "share"), [(1, 6), (2, 3), (3, 2), (6, 1)])
def test_the_batch_is_shared_out_over_devices(root: Path, devices: int, share: int) -> None:
    module = data(root, batch_size=6)
    module.trainer = SimpleNamespace(world_size=devices, global_rank=0)  # type: ignore[assignment]  # a stand-in
    loaders = (
        module.train_dataloader(),
        module.val_dataloader(),
        module.test_dataloader(),
        module.predict_dataloader(),
    )
    assert [loader.batch_size for loader in loaders if isinstance(loader, DataLoader)] == [share] * 4


def test_a_batch_that_cannot_be_shared_out_is_refused(root: Path) -> None:
    module = data(root, batch_size=6)
    module.trainer = SimpleNamespace(world_size=4)  # type: ignore[assignment]  # a stand-in
    with pytest.raises(ValueError, match=r"batch_size 6 cannot be shared .* over 4 devices; choose a multiple of 4"):
        module.train_dataloader()


@pytest.mark.parametrize(("gpu", "cores", "workers"), [(True, 2, 2), (True, 64, 8), (False, 2, 0), (False, 8, 2)])
def test_workers_are_those_asked_for_or_by_the_hardware(
    root: Path, gpu: bool, cores: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    monkeypatch.setattr("vit_lightning.data.datamodule.available_cores", lambda: cores)
    assert data(root, num_workers=3).train_dataloader().num_workers == 3
    assert data(root, num_workers=None, batch_size=4).train_dataloader().num_workers == workers
    assert data(root, num_workers=None, batch_size=12).train_dataloader().num_workers == 0  # a few pictures only


def test_worker_processes_load_the_same(root: Path) -> None:
    one, other = (single(data(root, num_workers=workers).val_dataloader()) for workers in (0, 1))
    assert contents(one) == contents(other)


def test_predict_labels_the_files_asked_for_without_a_data_set(root: Path) -> None:
    module = ImageDataModule(image_size=8, batch_size=2, num_workers=0)
    module.predict_paths = [root / "cow" / "frame25.png", root / "ant" / "frame4.png", root / "bee" / "frame11.png"]
    module.prepare_data()
    module.setup("predict")
    batches = list(module.predict_dataloader())
    assert [list(paths) for _, paths, _ in batches] == [
        [str(path) for path in module.predict_paths[:2]],
        [str(module.predict_paths[2])],
    ]
    assert [identity(image) for images, _, _ in batches for image in images] == [(5, 2), (4, 0), (1, 1)]


@pytest.mark.parametrize(("test_fraction", "part"), [(0.0, "val"), (0.3, "test")])
def test_predict_labels_the_held_out_images_unless_asked_otherwise(root: Path, test_fraction: float, part: str) -> None:
    module = data(root, "predict", test_fraction=test_fraction)
    batches = list(module.predict_dataloader())
    assert [path for _, paths, _ in batches for path in paths] == [
        str(root / sample.path) for sample in module.samples if sample.split == part
    ]
    assert {tuple(image.shape) for images, _, _ in batches for image in images} == {(8, 8, 3)}
