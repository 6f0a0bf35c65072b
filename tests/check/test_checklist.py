"""`check`: a healthy run gives only ok, and every planted fault its line and its status."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from vit_lightning.check.finding import Finding, tell
from vit_lightning.cli import main
from vit_lightning.models.vit import VisionTransformer

RUN = ["check", "--data.root=data", "--data.split=blocks", "--data.block_length=4", "--data.guard=0"]
RUN += ["--data.val_fraction=0.2", "--data.augment=light", "--data.num_workers=0", "--data.batch_size=16"]
RUN += ["--model.image_size=[24,40]", "--model.patch_size=8", "--model.dim=48", "--model.depth=2", "--model.heads=4"]
RUN += ["--model.lr=0.003", "--trainer.accelerator=cpu", "--trainer.max_epochs=60"]

LINES = [
    "files",
    "classes",
    "split",
    "guard",
    "pictures",
    "labels",
    "samples",
    "augmentation",
    "input",
    "device",
    "first loss",
]
LINES += ["gradients", "overfit", "learning rate", "weight decay", "time"]


@pytest.fixture
def work(frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a copy of the frames."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(frames, "data")
    return tmp_path


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> dict[str, Finding]:
    """The findings of the commands that follow, by name."""
    findings: dict[str, Finding] = {}

    def keep(finding: Finding) -> None:
        findings[finding.name] = finding
        tell(finding)

    monkeypatch.setattr("vit_lightning.check.tell", keep)
    return findings


def test_a_healthy_run_is_ok_in_every_line(
    work: Path, found: dict[str, Finding], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(RUN) == 0
    assert list(found) == LINES
    assert {finding.level for finding in found.values()} == {"ok"}, found
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "16 ok; pictures are in lightning_logs/check/run" in out
    folder = Path("lightning_logs/check/run")
    assert sorted(path.name for path in work.rglob("*") if "data" not in path.parts) == [
        *("check", "learning_rate.png", "lightning_logs", "run", "samples.png")
    ]
    for name in ("samples.png", "learning_rate.png"):
        with Image.open(folder / name) as picture:
            assert picture.width > 500
    assert main(["runs"]) == 0
    assert "check" not in capsys.readouterr().out.splitlines()[0]


def unnormalised(frames: Tensor, channels: int) -> Tensor:
    return frames.float().permute(0, 3, 1, 2)


def blank(*_: Any) -> v2.Transform:
    return v2.Lambda(lambda frame: torch.zeros_like(frame)[:, :24, :40])


def file_twice() -> None:
    """One picture goes into a second class, under the number that it has."""
    tom = next(Path("data").rglob("tom"))
    picture = min(tom.glob("*.jpg"), key=lambda path: int(path.stem.removeprefix("frame")))
    shutil.copy(picture, tom.parent / "jerry" / f"copy_{picture.name}")


def freeze(patch: pytest.MonkeyPatch) -> None:
    initialise = VisionTransformer.initialise

    def frozen(net: VisionTransformer, *arguments: Any) -> None:
        initialise(net, *arguments)
        net.blocks[1].requires_grad_(False)

    patch.setattr(VisionTransformer, "initialise", frozen)


def shuffle_labels() -> None:
    """Every picture goes to a folder at random, as many to each as before."""
    pictures = sorted(Path("data").rglob("frame*.jpg"))
    folders = [picture.parent for picture in pictures]
    random.Random(0).shuffle(folders)
    for picture, folder in zip(pictures, folders, strict=True):
        picture.rename(folder / f"{picture.stem}.moved")
    for picture in Path("data").rglob("*.moved"):
        picture.rename(picture.with_suffix(".jpg"))


FAULTS: list[tuple[str, Callable[[pytest.MonkeyPatch], object] | None, list[str], str, str, list[str]]] = [
    ("lr 10", None, ["--model.lr=10"], "failure", "learning rate", ["10", "lower --model.lr"]),
    ("decay 10", None, ["--model.weight_decay=10"], "failure", "weight decay", ["10 leaves", "--model.weight_decay"]),
    ("frozen layer", freeze, [], "failure", "gradients", ["blocks.1.norm1.weight", "frozen", "requires_grad"]),
    (
        "bytes",
        lambda patch: patch.setattr("vit_lightning.data.datamodule.normalise", unnormalised),
        [],
        *("failure", "input", ["normalise"]),
    ),
    (
        "blank crops",
        lambda patch: patch.setattr("vit_lightning.data.datamodule.train_transform", blank),
        [],
        *("failure", "augmentation", ["too little is left", "samples.png"]),
    ),
    ("two classes", lambda _: file_twice(), [], "warning", "pictures", ["1 picture is in two", "/jerry/copy_frame"]),
    ("no guard", None, ["--data.block_length=6"], "warning", "guard", ["0; labels of two frames", "data.guard"]),
    ("shuffled labels", lambda _: shuffle_labels(), [], "warning", "labels", ["labels look shuffled", "samples.png"]),
]


@pytest.mark.parametrize(
    ("plant", "options", "level", "name", "words"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS]
)
def test_a_planted_fault_gives_its_line(
    work: Path,
    found: dict[str, Finding],
    monkeypatch: pytest.MonkeyPatch,
    plant: Callable[[pytest.MonkeyPatch], object] | None,
    options: list[str],
    level: str,
    name: str,
    words: list[str],
) -> None:
    if plant is not None:
        plant(monkeypatch)
    state = main([*RUN, *options])
    assert found[name].level == level
    for word in words:
        assert word in found[name].text
    assert state == int(any(finding.level == "failure" for finding in found.values()))
    assert state == 1 or level == "warning"


def test_files_that_cannot_be_read_fail_unless_they_are_to_be_skipped(
    work: Path, found: dict[str, Finding], capsys: pytest.CaptureFixture[str]
) -> None:
    next(Path("data").rglob("*.jpg")).write_bytes(b"")
    assert main(RUN) == 1
    assert found["files"].level == "failure"
    assert "the file is empty" in found["files"].text
    assert "--data.on_error skip" in found["files"].text
    assert "1 failure; pictures" in capsys.readouterr().out


def test_the_pictures_are_named_after_the_config_and_configs_and_flags_add_up(
    work: Path, found: dict[str, Finding]
) -> None:
    Path("my.yaml").write_text("model: {lr: 10, depth: 1}\ntrainer: {max_epochs: 7}")
    Path("more.yaml").write_text("model: {weight_decay: 0.25}")
    assert main([*RUN[:1], "--config=my.yaml", "--config=more.yaml", *RUN[1:-1], "--model.lr=0.002"]) == 0
    assert found["learning rate"].text.startswith("0.002; ")
    assert found["weight decay"].text.startswith("0.25 ")
    assert "35 steps" in found["time"].text  # 76 images: 5 batches of 16, 7 times
    assert "all 32 parameters" in found["gradients"].text  # depth 2 by the flag: it wins
    assert Path("lightning_logs/check/my/samples.png").is_file()


def test_a_run_s_weights_are_what_is_checked(work: Path, found: dict[str, Finding]) -> None:
    assert main(["fit", *RUN[1:-1], "--trainer.max_epochs=15", "--run=first"]) == 0
    assert main([*RUN, "--model.init_from=first"]) == 0
    assert "of another run" in found["first loss"].text
    assert float(found["first loss"].text.split()[0]) < 1.3
    assert sorted(path.name for path in Path("lightning_logs").iterdir()) == ["check", "first"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model.dpth=3"], ["--model.dpth", "did you mean --model.depth?"]),
        (["--config=my.yaml"], ["my.yaml does not exist"]),
        (["--run=first"], ["there is no option --run"]),
        (["--data.root=nowhere"], ["nowhere does not exist"]),
        (["--data.root=data", "--trainer.max_epochs=-1"], ["give trainer.max_epochs or trainer.max_steps"]),
        (["--data.root=data", "--model.init_from=first"], ["'first'"]),
    ],
)
def test_misuse_is_one_line(
    work: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    assert main(["check", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line
    assert not list(work.rglob("*.png"))


def test_check_has_help_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["check", "--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    for option in ("--config", "--data.root", "--model.lr", "--trainer.max_epochs"):
        assert option in out
    assert "--resume" not in out


def test_labels_that_mean_nothing_are_learnt_where_they_are_asked_for(
    work: Path, found: dict[str, Finding], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vit_lightning.check.random_labels.TRAINING", 1.0)
    main([*RUN, "--random_labels=true"])
    assert list(found) == [*LINES, "random labels"]
    assert "shuffled by clip: " in found["random labels"].text
