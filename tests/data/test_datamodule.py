"""The data module: what is refused, what each stage does and keeps, and what its loaders deliver."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from vit_lightning.cli import main
from vit_lightning.data.datamodule import ImageDataModule
from vit_lightning.data.loading import LabelledImages

CLASSES = ("ant", "bee", "cow")

BAD = ["ant/frame3.png", "bee/frame11.png", "cow/frame25.png"]


def data(root: Path, stage: str = "fit", **changes: object) -> ImageDataModule:
    settings: dict[str, object] = {"image_size": 8, "batch_size": 4, "num_workers": 0, "val_fraction": 0.2}
    module = ImageDataModule(root=str(root), **(settings | changes))  # type: ignore[arg-type]  # settings of many types
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


# Refusals


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"val_fraction": -0.1}, "data.val_fraction is -0.1; expected a number in [0, 1)"),
        ({"val_fraction": 1.0}, "data.val_fraction is 1.0; expected a number in [0, 1)"),
        ({"test_fraction": -0.1}, "data.test_fraction is -0.1; expected a number in [0, 1)"),
        ({"test_fraction": 1.5}, "data.test_fraction is 1.5; expected a number in [0, 1)"),
        (
            {"val_fraction": 0.5, "test_fraction": 0.5},
            "data.val_fraction 0.5 and data.test_fraction 0.5 leave nothing to train on",
        ),
        ({"batch_size": 0}, "data.batch_size is 0; expected a whole number from 1 to 16777216"),
        ({"block_length": 0}, "data.block_length is 0; expected a whole number from 1 to 1e+18"),
        ({"guard": -1}, "data.guard is -1; expected a whole number from 0 to 1e+18"),
        ({"subset": 0}, "data.subset is 0; expected a whole number from 1 to 1e+18"),
        ({"num_workers": -1}, "data.num_workers is -1; expected a whole number from 0 to 256"),
    ],
)
def test_numbers_out_of_their_range_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        ImageDataModule(**settings)  # type: ignore[arg-type]  # settings of many types


def test_numbers_at_the_edge_of_their_range_are_taken() -> None:
    ImageDataModule(val_fraction=0.0, test_fraction=0.0, batch_size=1, block_length=1, guard=0, subset=1, num_workers=0)
    ImageDataModule(val_fraction=0.5, test_fraction=0.49)


# Stages


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
        assert list(other.used_split.unreadable) == BAD
    monkeypatch.setattr("vit_lightning.data.splitting.find_samples", lambda *_: pytest.fail("listed again"))
    other.prepare_data()  # as the Trainer does once more


def test_set_up_twice_is_set_up_once(root: Path) -> None:
    module = data(root)
    before = module.used_split.samples
    (root / "ant" / "frame0.png").unlink()
    module.setup("test")
    assert module.used_split.samples == before


def test_scoring_before_training_changes_nothing(root: Path) -> None:
    module = data(root, "validate", augment="trivial")
    module.setup("fit")
    assert [tuple(frame.shape) for frame in (module.frames["train"][0], module.frames["val"][0])] == [
        (8, 10, 3),  # room for a crop, as far as the picture has it
        (8, 8, 3),
    ]


def test_only_what_is_looked_at_again_and_again_is_kept(root: Path) -> None:
    module = data(root, test_fraction=0.2)
    assert set(module.frames) == {"train", "val"}
    assert data(root, "test", test_fraction=0.2).frames == {}
    assert len(contents(module.test_dataloader())) == 6


def test_what_is_done_with_unreadable_files_is_saved_with_the_run() -> None:
    assert ImageDataModule().hparams["on_error"] == "raise"
    assert ImageDataModule(on_error="skip").hparams["on_error"] == "skip"


# Loaders


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
    assert module.used_split.test_part == "val"
    assert contents(module.test_dataloader()) == contents(single(module.val_dataloader()))
    module = data(root, test_fraction=0.3)
    assert module.used_split.test_part == "test"
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
        str(root / sample.path) for sample in module.used_split.samples if sample.split == part
    ]
    assert {tuple(image.shape) for images, _, _ in batches for image in images} == {(8, 8, 3)}


def test_to_predict_held_out_images_none_leaves_and_none_ends_it(damaged: Path) -> None:
    """Those that cannot be read come with the reason and a black image, so that the others get their label."""
    module = data(damaged, "predict", val_fraction=0.5)
    assert len(module.used_split.samples) == 30
    held_out = {str(damaged / sample.path) for sample in module.used_split.part("val")}
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
    draw: Callable[..., None],
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


def test_the_run_s_log_says_which_frames_do_not_train(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """It is known before there is a run to keep a log."""
    monkeypatch.chdir(tmp_path)
    for path in root.rglob("*.png"):  # each comes again five frames later or earlier
        seed = [CLASSES.index(path.parent.name), int(path.stem[5:]) % 5]
        pixels = np.random.default_rng(seed).integers(256, size=(8, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    settings = ["--data.split=blocks", "--data.block_length=1", "--data.guard=1", "--data.val_fraction=0.04"]
    tiny = ["--model.image_size=16", "--model.dim=16", "--model.depth=1", "--model.heads=2", "--trainer.max_epochs=1"]
    command = ["fit", f"--data.root={root}", *settings, *tiny, "--trainer.accelerator=cpu", "--run=one"]
    assert main(command) == 0
    sentence = "1 training frames repeat a held-out one, such as "
    assert capsys.readouterr().out.count(sentence) == 1
    assert Path("lightning_logs/one/run.log").read_text().count(sentence) == 1
