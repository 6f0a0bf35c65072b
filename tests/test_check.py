"""`check`: a healthy run gives only ok, and every planted fault its line and its status."""

import math
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.tuner.lr_finder import _LRCallback, _LRFinder
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

from vit_lightning import check
from vit_lightning.cli import main
from vit_lightning.evaluation.baselines import Baselines
from vit_lightning.models.vit import VisionTransformer

RUN = ["check", "--data.root=data", "--data.split=blocks", "--data.block_length=4", "--data.guard=0"]
RUN += ["--data.val_fraction=0.2", "--data.augment=light", "--data.num_workers=0", "--data.batch_size=16"]
RUN += ["--model.image_size=[24,40]", "--model.patch_size=8", "--model.dim=48", "--model.depth=2", "--model.heads=4"]
RUN += ["--model.lr=0.003", "--trainer.accelerator=cpu", "--trainer.max_epochs=60"]

LINES = ["files", "classes", "split", "labels", "samples", "augmentation", "input", "device", "first loss"]
LINES += ["gradients", "by heart", "learning rate", "weight decay", "time"]


@pytest.fixture
def work(frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a copy of the frames."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(frames, "data")
    return tmp_path


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> dict[str, check.Finding]:
    """The findings of the commands that follow, by name."""
    findings: dict[str, check.Finding] = {}
    show = check.tell

    def keep(finding: check.Finding) -> None:
        findings[finding.name] = finding
        show(finding)

    monkeypatch.setattr(check, "tell", keep)
    return findings


# The command


def test_a_healthy_run_is_ok_in_every_line(
    work: Path, found: dict[str, check.Finding], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(RUN) == 0
    assert list(found) == LINES
    assert {finding.level for finding in found.values()} == {"ok"}, found
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "14 ok; pictures are in lightning_logs/check/run" in out
    folder = Path("lightning_logs/check/run")
    assert sorted(path.name for path in work.rglob("*") if "data" not in path.parts) == [
        *("check", "learning_rate.png", "lightning_logs", "run", "samples.png")
    ]
    for name in ("samples.png", "learning_rate.png"):
        with Image.open(folder / name) as picture:
            assert picture.width > 500
    assert main(["runs"]) == 0
    assert "check" not in capsys.readouterr().out.splitlines()[0]


def unnormalised(frames: Tensor) -> Tensor:
    return frames.float().permute(0, 3, 1, 2)


def blank(*_: Any) -> v2.Transform:
    return v2.Lambda(lambda frame: torch.zeros_like(frame)[:, :24, :40])


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
    ("shuffled labels", lambda _: shuffle_labels(), [], "warning", "labels", ["labels look shuffled", "samples.png"]),
]


@pytest.mark.parametrize(
    ("plant", "options", "level", "name", "words"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS]
)
def test_a_planted_fault_gives_its_line(
    work: Path,
    found: dict[str, check.Finding],
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
    work: Path, found: dict[str, check.Finding], capsys: pytest.CaptureFixture[str]
) -> None:
    next(Path("data").rglob("*.jpg")).write_bytes(b"")
    assert main(RUN) == 1
    assert found["files"].level == "failure"
    assert "the file is empty" in found["files"].text
    assert "--data.on_error skip" in found["files"].text
    assert "1 failure; pictures" in capsys.readouterr().out
    finding = check.check_files({"a.jpg": "the file is empty"}, 9, refuses=False)
    assert finding.level == "warning"
    assert "left out" in finding.text


def test_the_pictures_are_named_after_the_config_and_configs_and_flags_add_up(
    work: Path, found: dict[str, check.Finding]
) -> None:
    Path("my.yaml").write_text("model: {lr: 10, depth: 1}\ntrainer: {max_epochs: 7}")
    Path("more.yaml").write_text("model: {weight_decay: 0.25}")
    assert main([*RUN[:1], "--config=my.yaml", "--config=more.yaml", *RUN[1:-1], "--model.lr=0.002"]) == 0
    assert found["learning rate"].text.startswith("0.002; ")
    assert found["weight decay"].text.startswith("0.25 ")
    assert "35 steps" in found["time"].text  # 76 images: 5 batches of 16, 7 times
    assert "all 32 parameters" in found["gradients"].text  # depth 2 by the flag: it wins
    assert Path("lightning_logs/check/my/samples.png").is_file()


def test_a_run_s_weights_are_what_is_checked(work: Path, found: dict[str, check.Finding]) -> None:
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


# One line each


def test_classes_of_very_different_sizes_are_a_warning_unless_they_are_weighed() -> None:
    assert check.check_balance(Counter(cat=100, dog=10), weighted=False).level == "ok"
    finding = check.check_balance(Counter(cat=101, dog=10), weighted=False)
    assert finding.level == "warning"
    assert "--model.class_weights balanced" in finding.text
    assert check.check_balance(Counter(cat=101, dog=10), weighted=True).level == "ok"


def test_a_split_that_leaks_is_a_warning() -> None:
    baselines: dict[str, float | None] = {"majority": 0.3, "neighbour_number": None, "thumbnail_neighbour": 0.8}
    assert check.check_split(Baselines("val", baselines, 0.01, "do this")).level == "ok"
    finding = check.check_split(Baselines("val", baselines, 0.5, "do this"))
    assert finding.level == "warning"
    assert "thumbnail 0.800" in finding.text
    assert "do this" in finding.text
    assert check.check_split(None).level == "warning"


def test_labels_are_judged_by_near_copies() -> None:
    draw = np.random.default_rng(0)
    scenes = draw.integers(0, 256, (100, 1, 16, 16, 3))
    copies = np.clip(scenes + draw.integers(-3, 4, (100, 4, 16, 16, 3)), 0, 255).astype(np.uint8)
    thumbnails, labels = copies.reshape(-1, 16, 16, 3), np.repeat(draw.integers(0, 4, 100), 4)
    finding = check.check_labels(thumbnails, labels)
    assert finding.level == "ok"
    assert "in 100%" in finding.text
    assert check.check_labels(thumbnails, draw.permutation(labels)).level == "warning"


def test_augmentation_is_judged_by_what_is_left_of_the_picture() -> None:
    draw = np.random.default_rng(0)
    plain = draw.integers(0, 256, (200, 16, 16, 3)).astype(np.uint8)
    labels = draw.integers(0, 4, 200)
    harmless = (plain[:, :, ::-1] // 8 + 200).astype(np.uint8)  # mirrored, duller and brighter
    assert check.check_augmentation(plain, harmless, labels).level == "ok"
    assert "in 100%" in check.check_augmentation(plain, harmless, labels).text
    mixed = np.where((np.arange(200) % 5 == 0)[:, None, None, None], plain, draw.permutation(plain))
    assert check.check_augmentation(plain, mixed, labels).level == "warning"
    assert check.check_augmentation(plain, draw.permutation(plain), labels).level == "failure"


@pytest.mark.parametrize(
    ("mean", "deviation", "level"),
    [(0.0, 1.0, "ok"), (-1.0, 0.5, "ok"), (0.5, 0.25, "warning"), (118.0, 60.0, "failure"), (0.0, 0.001, "failure")],
)
def test_input_is_to_be_near_0_and_1(mean: float, deviation: float, level: str) -> None:
    images = mean + deviation * torch.randn(20, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert check.check_input(images).level == level
    images[0, 0, 0, 0] = math.nan
    assert check.check_input(images).level == "failure"


class Small(nn.Module):
    """Two layers on flattened images of three colours and 4 x 4 pixels."""

    def __init__(self, *, unused: bool = False, dead: bool = False, scale: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.head = nn.Linear(48, 32), nn.Linear(32, 4)
        self.extra = nn.Linear(2, 2) if unused else None
        self.dead, self.scale = dead, scale

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.hidden(x.flatten(1)).relu()
        logits: Tensor = self.head(hidden * 0 if self.dead else hidden) * self.scale
        return logits


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(60, 3, 4, 4, generator=generator), torch.randint(4, (60,), generator=generator)


def workbench(net: nn.Module) -> check.Workbench:
    trainer: Any = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cpu")), precision="32-true")
    return check.Workbench(net, trainer)


def test_gradients_are_judged_by_name(images: tuple[Tensor, Tensor]) -> None:
    assert check.check_gradients(workbench(Small()), *images).level == "ok"
    for net, words in (
        (Small(unused=True), ["extra.weight, extra.bias", "not used"]),
        (Small(dead=True), ["hidden.weight, hidden.bias", "zero"]),
        (Small(scale=math.nan), ["hidden.weight", "and 1 more", "no number"]),
    ):
        finding = check.check_gradients(workbench(net), *images)
        assert finding.level == "failure"
        for word in words:
            assert word in finding.text
    assert check.check_gradients(workbench(Small(scale=1e5)), *images).level == "warning"


def test_a_head_of_zeros_is_no_fault_and_says_ln_k(images: tuple[Tensor, Tensor]) -> None:
    net = Small()
    nn.init.zeros_(net.head.weight)
    nn.init.zeros_(net.head.bias)
    assert check.check_gradients(workbench(net), *images).level == "ok"
    finding = check.check_first_loss(workbench(net), *images, 4, fresh=True)
    assert finding.level == "ok"
    assert finding.text.startswith("1.386 before")
    assert not net.head.weight.any()  # a copy was trained


def test_a_first_loss_far_from_ln_k_is_told(images: tuple[Tensor, Tensor]) -> None:
    assert check.check_first_loss(workbench(Small(scale=4)), *images, 4, fresh=True).level == "warning"
    assert check.check_first_loss(workbench(Small(scale=4)), *images, 4, fresh=False).level == "ok"
    assert check.check_first_loss(workbench(Small(scale=100)), *images, 4, fresh=False).level == "failure"
    assert check.check_first_loss(workbench(Small(scale=math.nan)), *images, 4, fresh=True).level == "failure"


def test_random_labels_are_learnt_by_heart_unless_the_rate_forbids_it(
    images: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = workbench(Small())
    finding = check.check_memory(bench, *images, lr=0.01, clip=1.0)
    assert finding.level == "ok"
    assert " loss 1.37 ->" in finding.text  # of the first batch
    finding = check.check_memory(bench, *images, lr=1e-7, clip=1.0)
    assert finding.level == "failure"
    assert "learning rate" in finding.text
    monkeypatch.setattr(check, "LEARNING", 0.0)
    assert check.check_memory(bench, *images, lr=0.003, clip=1.0).level == "warning"


@pytest.mark.parametrize(
    ("lr", "decay", "steps", "level"),
    [
        (1e-3, 0.05, 1000, "ok"),
        (3e-4, 0.1, 15400, "ok"),  # the article's run
        (5e-4, 0.05, 375_000, "ok"),  # DeiT's: much is forgotten, but slowly
        (1e-3, 3.0, 1200, "warning"),
        (1e-3, 10.0, 1200, "failure"),
        (1e-3, 10.0, 10, "ok"),  # it has no time
        (1e-3, 0.0, 1000, "ok"),
        (0.0, 10.0, 1000, "ok"),
    ],
)
def test_decay_is_judged_by_what_it_leaves_and_how_fast(lr: float, decay: float, steps: int, level: str) -> None:
    assert check.check_decay(lr, decay, steps, 0.1).level == level


def test_a_learning_rate_is_judged_by_where_the_loss_explodes() -> None:
    levels = {0.5: "failure", 0.2: "warning", 0.03: "ok"}
    assert {lr: check.judge_lr(lr, 0.4, 0.01, "a.png").level for lr in levels} == levels
    assert check.judge_lr(0.03, 0.4, 0.01, "a.png").text == "0.03; the finder suggests 0.01 (see a.png)"
    assert check.judge_lr(0.03, 0.4, None, "a.png").text == "0.03 (see a.png)"


def test_decay_is_summed_over_the_schedule() -> None:
    # Ten steps, none of warm-up: the factors (1 + cos(pi n / 10)) / 2 for n = 0 ... 9 sum up to 5.5.
    assert check.check_decay(0.1, 1.0, 10, 0.0).text.startswith("1 leaves 0.58 of")  # exp(-0.55) = 0.577


def test_each_batch_s_loss_is_got_back_from_lightning_s_average() -> None:
    callback, losses = _LRCallback(5), [1.4, 1.3, 1.5, 1.0, 2.5]
    broadcast = SimpleNamespace(broadcast=lambda flag: flag)
    loop = SimpleNamespace(batch_idx=0)
    for step, loss in enumerate(losses, start=1):
        trainer: Any = SimpleNamespace(
            fit_loop=loop, accumulate_grad_batches=1, global_step=step, should_stop=False, strategy=broadcast
        )
        callback.on_train_batch_end(trainer, None, torch.tensor(loss, dtype=torch.float64), None, 0)  # type: ignore[arg-type]  # no module is needed
    assert check.batch_losses(callback.losses) == pytest.approx(losses)


def test_the_suggestion_lies_before_the_lowest_loss() -> None:
    finder = _LRFinder("exponential", 1e-6, 1.0, 60)
    rates, losses = np.logspace(-6, 0, 61), np.full(61, 1.4)
    losses[30:40] = np.linspace(1.4, 1.0, 10)
    losses[40:55], losses[55:] = 50.0, 1.5  # steeper than the descent
    finder.results = {"lr": rates.tolist(), "loss": losses.tolist()}
    found = check.suggested(finder, losses)
    assert found is not None
    assert rates[29] <= found <= rates[39]
    assert check.suggested(finder, np.linspace(1, 2, 61)) is None


def test_the_loss_explodes_where_it_stays_twice_as_high() -> None:
    rates = np.logspace(-6, 0, 61)
    losses = np.full(61, 1.4)
    assert check.divergence(rates, losses) == 1.0
    losses[30] = 100.0  # one batch alone
    assert check.divergence(rates, losses) == 1.0
    losses[50:] = 5.0
    assert check.divergence(rates, losses) == pytest.approx(0.1)
    losses[40:] = math.nan
    assert check.divergence(rates, losses) == pytest.approx(0.01)


def test_times_are_said_in_the_unit_that_suits_them() -> None:
    assert [check.duration(seconds) for seconds in (4, 89, 90, 600, 5400)] == [
        *("4 s", "89 s", "2 minutes", "10 minutes", "1.5 hours")
    ]
    pace = check.Pace(steps=100, batches=100, batch=0.5, validations=20, validation=0.5, images=32)
    assert pace.finding().text == "64 images/s in training; 100 steps and validation take about 60 s"
