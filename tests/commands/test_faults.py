"""Every fault that users are known to meet ends in one line with what to do, a status above zero, and no new run."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from vit_lightning.cli import main

TINY = ["--model.image_size=16", "--model.patch_size=8", "--model.dim=16", "--model.depth=1", "--model.heads=2"]
TINY += ["--data.num_workers=0", "--trainer.accelerator=cpu", "--trainer.max_epochs=1"]
FIT = ["fit", *TINY, "--data.root=data"]
PICTURE = "data/tom_and_jerry/tom_and_jerry/tom/frame0.jpg"


@pytest.fixture(scope="module")
def home(frames: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with data and one finished run, `first`, which the tests copy."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        shutil.copytree(frames, "data")
        assert main([*FIT, "--run=first"]) == 0
    return folder


@pytest.fixture
def work(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(home, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("CXX", "no-such-compiler")
    return tmp_path


def write(name: str, content: str | bytes) -> Callable[[], object]:
    """Makes a file."""

    def make() -> None:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return make


def pets(**folders: int | str) -> Callable[[], object]:
    """Makes class folders below `pets` with so many images, or with one file of a name."""

    def make() -> None:
        for name, content in folders.items():
            folder = Path("pets", *name.split("__"))
            folder.mkdir(parents=True)
            if isinstance(content, str):
                (folder / content).write_bytes(b"something")
            else:
                for number in range(content):
                    Image.new("RGB", (20, 20), (number, 0, 0)).save(folder / f"{number}.png")

    return make


def split(*lines: str) -> Callable[[], object]:
    """Makes a split file of the data: the lines after a sound header."""
    return write("my.csv", "\n".join(("path,label,split", *lines)))


def first_picture() -> Path:
    return next(Path("data").rglob("*.jpg"))


def spoil(content: Callable[[bytes], bytes]) -> Callable[[], object]:
    """Changes one training picture's bytes."""

    def make() -> None:
        picture = first_picture()
        picture.write_bytes(content(picture.read_bytes()))

    return make


def logs_as_file() -> None:
    shutil.rmtree("lightning_logs")
    Path("lightning_logs").touch()


def odd_name() -> None:
    picture = first_picture()
    shutil.copy(os.fsencode(picture), os.fsencode(picture.parent) + b"/bad\xff.jpg")


def no_split() -> None:
    Path("lightning_logs/first/split.csv").unlink()


def cut_checkpoints() -> None:
    for path in Path("lightning_logs/first/checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:100])


def half_checkpoint() -> None:
    whole = Path("lightning_logs/first/checkpoints/best.ckpt").read_bytes()
    Path("half.ckpt").write_bytes(whole[: len(whole) // 2])


def no_classes() -> None:
    torch.save({"state_dict": {}}, "other.ckpt")


def drop_class() -> None:
    """A split file in which one class never trains."""
    pictures = sorted(Path("data").rglob("*.jpg"))
    rows = [(path.relative_to("data").as_posix(), path.parent.name, number) for number, path in enumerate(pictures)]
    text = [f"{path},{label},{'val' if label == 'tom' or number % 3 == 0 else 'train'}" for path, label, number in rows]
    split(*text)()


FAULTS: list[tuple[str, Callable[[], object] | None, list[str], list[str]]] = [
    # The front door
    ("unknown command", None, ["fitt"], ["fitt", "did you mean fit?"]),
    ("no such command at all", None, ["paint"], ["paint", "choose one of"]),
    ("misspelt flag", None, ["fit", "--model.dpth=3"], ["--model.dpth", "did you mean --model.depth?"]),
    ("misspelt section", None, ["fit", "--modle.depth=3"], ["--modle.depth", "--model.depth"]),
    ("flag without its section", None, ["fit", "--lr=3"], ["--lr", "--model.lr"]),
    ("flag of another command", None, ["validate", "--images", "x"], ["--images"]),
    ("shortened to two flags", None, ["fit", "--model.d=3"], ["--model.d", "--model.dim, --model.depth"]),
    ("a word too many", None, ["fit", "now"], ["'now'", "options begin with --"]),
    ("flag without a value", None, ["fit", "--config"], ["--config needs a value"]),
    # Values
    ("no whole number", None, ["fit", "--model.depth=three"], ["model.depth is three", "a whole number"]),
    ("a fraction of an image", None, ["fit", "--data.batch_size=3.5"], ["3.5", "a whole number"]),
    ("no number", None, ["fit", "--model.lr=fast"], ["model.lr is fast", "a number"]),
    ("no list", None, ["fit", "--model.betas=0.9"], ["model.betas is 0.9", "a list"]),
    ("no such choice", None, ["fit", "--data.augment=heavy"], ["heavy", "trivial, strong, light, article, none"]),
    ("no such pooling", None, ["fit", "--model.pool=max"], ["max", "cls, gap"]),
    ("no such precision", None, ["fit", "--trainer.precision=17"], ["17", "bf16-mixed"]),
    ("no such weights", None, ["fit", "--model.class_weights=even"], ["even", "balanced"]),
    ("no such seed", None, ["fit", "--seed_everything=abc"], ["abc", "a whole number"]),
    # Configs
    ("missing config", None, ["fit", "--config=my.yaml"], ["my.yaml does not exist", "configs/demo.yaml"]),
    ("folder as config", None, ["fit", "--config=data"], ["is a folder"]),
    ("no YAML", write("my.yaml", "model: {depth: 3\n"), ["fit", "--config=my.yaml"], ["my.yaml is no YAML", "line 2"]),
    ("tab in YAML", write("my.yaml", "model:\n\tdepth: 3"), ["fit", "-c", "my.yaml"], ["my.yaml is no YAML", "line 2"]),
    ("words as config", write("my.yaml", "deeper please"), ["fit", "--config=my.yaml"], ["holds no settings"]),
    ("picture as config", None, ["fit", f"--config={PICTURE}"], ["no YAML"]),
    ("misspelt key", write("my.yaml", "model: {dpth: 3}"), ["fit", "-c=my.yaml"], ["model.dpth", "model.depth"]),
    ("misspelt section key", write("my.yaml", "modle: {depth: 3}"), ["fit", "-c=my.yaml"], ["modle.depth"]),
    ("bad value in config", write("my.yaml", "data: {seed: x}"), ["fit", "-c=my.yaml"], ["data.seed is x"]),
    # The data's folder
    ("no root", None, ["fit"], ["data.source is folder", "--data.root PATH"]),
    ("root missing", None, ["fit", "--data.root=dta"], ["dta does not exist"]),
    ("root is a file", None, ["fit", f"--data.root={PICTURE}"], ["is a file"]),
    (
        "root is empty",
        lambda: Path("pets").mkdir(),
        ["fit", "--data.root=pets"],
        ["no class folder", "one folder a class"],
    ),
    ("one class", pets(cat=3), ["fit", "--data.root=pets"], ["only the class cat", "two folders"]),
    ("no image", pets(cat="a.txt", dog="b.txt"), ["fit", "--data.root=pets"], ["no image"]),
    ("empty class", pets(cat=3, dog=0), ["fit", *TINY, "--data.root=pets"], ["dog", "no image"]),
    ("class of unknown files", pets(cat=3, dog="1.heic"), ["fit", *TINY, "--data.root=pets"], ["dog", "heic"]),
    (
        "two validation folders",
        pets(train__a=2, train__b=2, val__a=1, valid__a=1),
        ["fit", "--data.root=pets"],
        ["two"],
    ),
    ("cut picture", spoil(lambda b: b[: len(b) // 2]), FIT, [".jpg", "--data.on_error skip"]),
    ("empty picture", spoil(lambda _: b""), FIT, [".jpg", "--data.on_error skip"]),
    ("text as picture", spoil(lambda _: b"<html>"), FIT, [".jpg", "--data.on_error skip"]),
    ("no such source", None, ["fit", "--data.source=web"], ["web", "kaggle, demo, folder"]),
    # The split
    ("no such split", None, [*FIT, "--data.split=thirds"], ["'thirds'", "random, blocks, groups, folders or a .csv"]),
    ("no ready-made parts", None, [*FIT, "--data.split=folders"], ["no train folder", "--data.split random"]),
    (
        "parts are ready-made",
        pets(train__a=4, train__b=4, test__a=1, test__b=1),
        ["fit", *TINY, "--data.root=pets", "--data.split=random"],
        ["has ready-made", "--data.split folders"],
    ),
    (
        "names without numbers",
        None,
        ["fit", *TINY, "--data.root=words", "--data.split=blocks"],
        ["has none", "frame12"],
    ),
    ("too few blocks", None, [*FIT, "--data.split=blocks"], ["1 blocks of 120", "lower block_length"]),
    ("a wide guard", None, [*FIT, "--data.split=blocks", "--data.block_length=8", "--data.guard=99"], ["guard 99"]),
    ("a small class", pets(cat=9, dog=1), ["fit", *TINY, "--data.root=pets"], ["dog has 1 images", "too few"]),
    ("share above 1", None, [*FIT, "--data.val_fraction=1.5"], ["data.val_fraction is 1.5"]),
    (
        "nothing to train on",
        None,
        [*FIT, "--data.val_fraction=0.5", "--data.test_fraction=0.5"],
        ["nothing to train on"],
    ),
    ("small subset", None, [*FIT, "--data.subset=1"], ["subset 1 is too small"]),
    ("no batch", None, [*FIT, "--data.batch_size=0"], ["data.batch_size is 0", "from 1 to"]),
    ("missing split file", None, [*FIT, "--data.split=my.csv"], ["my.csv does not exist", "path,label,split"]),
    (
        "other columns",
        write("my.csv", "file,class\na,b"),
        [*FIT, "--data.split=my.csv"],
        ["file,class", "path,label,split"],
    ),
    ("empty split file", write("my.csv", ""), [*FIT, "--data.split=my.csv"], ["my.csv"]),
    ("binary split file", write("my.csv", bytes(range(256))), [*FIT, "--data.split=my.csv"], ["my.csv"]),
    ("unknown part", split("a.jpg,tom,dev"), [*FIT, "--data.split=my.csv"], ["'dev'", "train, val or test"]),
    ("unknown class", split("a.jpg,dog,train"), [*FIT, "--data.split=my.csv"], ["'dog'", "tom_jerry_1"]),
    ("image is not there", split("a.jpg,tom,train"), [*FIT, "--data.split=my.csv"], ["a.jpg", "not in"]),
    ("image of elsewhere", split("../x.jpg,tom,train"), [*FIT, "--data.split=my.csv"], ["../x.jpg"]),
    ("image twice", None, [*FIT, "--data.split=twice.csv"], ["a second time"]),
    ("class that never trains", drop_class, [*FIT, "--data.split=my.csv"], ["tom", "train"]),
    # The model
    ("patches do not fit", None, [*FIT, "--model.patch_size=5"], ["16 is not divisible by patch_size 5", "nearest"]),
    ("heads do not fit", None, [*FIT, "--model.heads=3"], ["dim 16", "heads 3"]),
    ("no width", None, [*FIT, "--model.dim=0"], ["dim is 0", "from 1 to"]),
    ("all dropped", None, [*FIT, "--model.dropout=1"], ["dropout is 1", "[0, 1)"]),
    ("no hidden unit", None, [*FIT, "--model.mlp_ratio=0"], ["mlp_ratio 0"]),
    ("learning backwards", None, [*FIT, "--model.lr=-1"], ["lr is -1"]),
    ("warm-up for ever", None, [*FIT, "--model.warmup_fraction=1.5"], ["warmup_fraction is 1.5"]),
    ("other number of classes", None, [*FIT, "--model.num_classes=7"], ["num_classes is 7", "4 classes"]),
    ("other classes", None, [*FIT, "--model.class_names=[a,b]"], ["a, b", "jerry, tom"]),
    ("nothing to start from", None, [*FIT, "--model.init_from=frist"], ["'frist'", "did you mean first?"]),
    ("start from another net", None, [*FIT, "--model.dim=32", "--model.init_from=first"], ["give --model.dim 16"]),
    # The trainer
    ("no such accelerator", None, [*FIT, "--trainer.accelerator=quantum"], ["quantum"]),
    ("no GPU", None, [*FIT, "--trainer.accelerator=cuda"], ["cuda", "no such GPU", "cpu.yaml"]),
    ("no whole devices", None, [*FIT, "--trainer.devices=zero"], ["devices"]),
    ("no device", None, [*FIT, "--trainer.devices=0"], ["devices='0'"]),
    (
        "no step at all",
        None,
        [*FIT, "--trainer.accumulate_grad_batches=0"],
        ["accumulate_grad_batches is 0", "from 1 to"],
    ),
    ("validation never", None, [*FIT, "--trainer.check_val_every_n_epoch=0"], ["check_val_every_n_epoch is 0"]),
    ("clipped to less than nothing", None, [*FIT, "--trainer.gradient_clip_val=-1"], ["gradient_clip_val is -1"]),
    ("betas beyond 1", None, [*FIT, "--model.betas=[2,3]"], ["betas is 2.0"]),
    (
        "misspelt callback",
        None,
        [*FIT, "--trainer.callbacks+=EarlyStoping"],
        ["EarlyStoping", "the name of such a class"],
    ),
    (
        "empty section",
        write("my.yaml", "model:\ndata: {seed: 1}"),
        ["fit", "-c=my.yaml"],
        ["section `model`", "none at all"],
    ),
    ("empty root", None, ["fit", "--data.root="], ["data.root is empty"]),
    ("empty number", None, ["fit", "--model.lr="], ["model.lr is empty", "a number"]),
    ("name of an old archive", odd_name, FIT, ["bad\\udcff.jpg", "rename it"]),
    (
        "split of the run is gone",
        no_split,
        ["fit", "--resume=first", "--trainer.max_epochs=2"],
        ["split.csv", "put it back"],
    ),
    (
        "broken config of a run",
        write("lightning_logs/first/config.yaml", "a: ["),
        ["fit", "--resume=first"],
        ["config.yaml is no"],
    ),
    ("both checkpoints cut", cut_checkpoints, ["fit", "--resume=first"], ["no checkpoint in", "can be read"]),
    ("empty image", None, ["predict", "--images", ""], ["--images has an empty name"]),
    (
        "a number as section",
        write("my.yaml", "model: 3"),
        ["fit", "-c=my.yaml"],
        ["section `model` of the config my.yaml"],
    ),
    ("endless", None, [*FIT, "--trainer.max_epochs=-1"], ["trainer.max_epochs"]),
    ("no callback", None, [*FIT, "--trainer.callbacks=Foo"], ["trainer.callbacks is Foo", "the name of such a class"]),
    ("uneven batches", None, [*FIT, "--trainer.devices=3", "--trainer.strategy=ddp"], ["batch_size 32", "3 devices"]),
    ("no clipping by value", None, [*FIT, "--trainer.gradient_clip_algorithm=value"], ["expected norm"]),
    (
        "a truth value left empty",
        write("my.yaml", "trainer:\n  detect_anomaly: null"),
        [*FIT, "-c=my.yaml"],
        ["trainer.detect_anomaly is None", "true or false"],
    ),
    (
        "weights that are none",
        write("x.safetensors", "x"),
        [*FIT, "--model.init_from=x.safetensors"],
        ["safetensors ("],
    ),
    ("cache is a file", None, ["fit", *TINY, "--data.source=demo", f"--data.cache_dir={PICTURE}"], ["frame0.jpg"]),
    ("no compiler", None, [*FIT, "--model.compile=true"], ["model.compile", "no-such-compiler", "install it"]),
    ("no such cache", None, [*FIT, "--data.cache=ram"], ["data.cache", "ram", "memory"]),
    ("frames cannot be kept", write("kept/frames", ""), [*FIT, "--data.cache_dir=kept"], ["kept", "--data.cache none"]),
    # Runs
    ("name is taken", None, [*FIT, "--run=first"], ["first already exists", "choose another"]),
    ("name with a slash", None, [*FIT, "--run=a/b"], ["a/b", "a plain name"]),
    (
        "logs are a file",
        logs_as_file,
        FIT,
        ["lightning_logs"],
    ),
    ("no run yet", lambda: shutil.rmtree("lightning_logs"), ["test"], ["no finished run", "start one with fit"]),
    ("no such run", None, ["predict", "--run=frist"], ["'frist'", "did you mean first?"]),
    ("no such checkpoint", None, ["test", "--run=x.ckpt"], ["x.ckpt does not exist"]),
    ("no checkpoint at all", None, ["test", f"--run={PICTURE}.ckpt"], ["does not exist"]),
    ("another file as checkpoint", write("x.ckpt", "words"), ["test", "--run=x.ckpt"], ["x.ckpt is no checkpoint"]),
    (
        "half a checkpoint",
        half_checkpoint,
        ["predict", "--run=half.ckpt", "--images=data"],
        ["half.ckpt is no checkpoint"],
    ),
    ("another project's checkpoint", no_classes, ["test", "--run=other.ckpt"], ["other.ckpt is no checkpoint"]),
    ("run and checkpoint", None, ["test", "--run=first", "--ckpt_path=x.ckpt"], ["give one"]),
    ("run without weights", lambda: shutil.rmtree("lightning_logs/first/checkpoints"), ["test"], ["no checkpoint"]),
    ("other net than the weights", None, ["test", "--model.depth=2"], ["depth 2 (saved: 1)"]),
    ("other classes than the run", pets(cat=2, dog=2), ["test", "--data.root=pets"], ["jerry, tom", "cat, dog"]),
    ("strangers that are none", pets(cat=0), ["test", "--strangers", "pets"], ["pets holds no picture"]),
    ("strangers that are not there", None, ["test", "--strangers", "simpsons"], ["simpsons is no folder"]),
    (
        "strangers of one name",
        pets(a__cat=1, b__cat=1),
        ["test", "--strangers", "pets/a/cat", "pets/b/cat"],
        ["rename"],
    ),
    ("strangers without neighbours", pets(cat=1), ["test", "--strangers=pets", "--neighbours=false"], ["leave out"]),
    ("data moved away", lambda: shutil.move("data", "gone"), ["test", "--data.root=data"], ["data does not exist"]),
    ("runs of what", None, ["runs", "nonsense"], ["nonsense", "runs --help"]),
    ("show what", None, ["runs", "show", "frist"], ["'frist'", "did you mean first?"]),
    ("resume what", None, ["fit", "--resume=frist"], ["'frist'", "did you mean first?"]),
    ("resume a finished run", None, ["fit", "--resume=first"], ["done its 1 epochs", "--trainer.max_epochs"]),
    ("resume as another", None, ["fit", "--resume=first", "--run=b"], ["--run"]),
    (
        "resume on other images",
        None,
        ["fit", "--resume=first", "--trainer.max_epochs=2", "--data.seed=1"],
        ["own split"],
    ),
    ("resume another net", None, ["fit", "--resume=first", "--trainer.max_epochs=2", "--model.dim=8"], ["dim 8"]),
    # Prediction
    ("no such images", None, ["predict", "--images", "nowhere/*.jpg"], ["nowhere/*.jpg", "quoted globs"]),
    ("folder without images", lambda: Path("void").mkdir(), ["predict", "--images", "void"], ["void holds no image"]),
    ("images without a value", None, ["predict", "--images"], ["--images needs a value"]),
    (
        "two devices",
        None,
        ["predict", "--images=data", "--trainer.devices=2", "--trainer.strategy=ddp"],
        ["one device"],
    ),
    ("output is a folder", None, ["predict", "--images", PICTURE, "--output=data"], ["data"]),
    ("unreadable picture", write("bad.jpg", "words"), ["predict", "--images", "bad.jpg"], ["bad.jpg"]),
    ("phone's own format", write("a.heic", "words"), ["predict", "--images", "a.heic"], ["a.heic"]),
]


def test_sixty_distinct_faults_are_kept_here() -> None:
    assert len({name for name, *_ in FAULTS}) == len(FAULTS) >= 60


@pytest.mark.parametrize(("make", "arguments", "words"), [fault[1:] for fault in FAULTS], ids=[f[0] for f in FAULTS])
def test_a_fault_is_one_line(
    work: Path,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[], object] | None,
    arguments: list[str],
    words: list[str],
) -> None:
    if make is not None:
        make()
    if "--data.root=words" in arguments:
        for name in ("cat", "dog"):
            Path("words", name).mkdir(parents=True)
            Image.new("RGB", (20, 20)).save(Path("words", name, f"{name}.png"))
    if "--data.split=twice.csv" in arguments:
        line = f"{first_picture().relative_to('data').as_posix()},{first_picture().parent.name},train"
        Path("twice.csv").write_text("\n".join(("path,label,split", line, line)))
    runs = sorted(Path().glob("lightning_logs/*"))
    capsys.readouterr()
    state = main(arguments)
    captured = capsys.readouterr()
    assert state in (1, 2)
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    assert "unexpected" not in line
    assert "Traceback" not in captured.out
    for word in words:
        assert word in line
    assert len(line) < 700
    assert sorted(Path().glob("lightning_logs/*")) == runs


def test_strangers_are_looked_for_before_anything_is_scored(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("lightning.pytorch.Trainer.test")
    assert main(["test", "--strangers", "nowhere"]) == 2
    assert "nowhere is no folder" in capsys.readouterr().err
