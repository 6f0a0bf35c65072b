"""A run that was stopped and went on is the run that was not: weights, optimizer, metrics and history to the bit."""

import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from vit_lightning.callbacks.checkpoints import ResumableStop
from vit_lightning.cli import main
from vit_lightning.module import ViTClassifier

# 70 training images: five batches an epoch, the last of them smaller.
FIT = ["fit", "--model.image_size=[16,32]", "--model.patch_size=8", "--model.dim=16", "--model.depth=1"]
FIT += ["--model.heads=2", "--model.dropout=0.1", "--model.drop_path=0.1", "--data.batch_size=16"]
FIT += ["--data.val_fraction=0.25", "--trainer.accelerator=cpu", "--trainer.log_every_n_steps=1"]
FIT += ["--trainer.max_epochs=3", "--trainer.precision=32-true"]

#: Where a signal comes: the stage, the epoch and the batch, from 0.
Place = tuple[str, int, int]

EMA = ["--model.ema=0.9"]


@pytest.fixture(autouse=True)
def work(frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    FIT_DATA[:] = [f"--data.root={frames}"]
    return tmp_path


FIT_DATA: list[str] = []


@pytest.fixture
def send(monkeypatch: pytest.MonkeyPatch) -> Callable[[Place, int], None]:
    """Has the process be sent a signal in the middle of a step, once."""
    wanted: dict[Place, int] = {}

    def spied(stage: str) -> Callable[..., Any]:
        original = getattr(ViTClassifier, f"{stage}_step")

        def step(self: ViTClassifier, batch: Any, batch_idx: int) -> Any:
            number = wanted.pop((stage, self.trainer.current_epoch, batch_idx), None)
            if number is not None:
                os.kill(os.getpid(), number)
            return original(self, batch, batch_idx)

        return step

    for stage in ("training", "validation"):
        monkeypatch.setattr(ViTClassifier, f"{stage}_step", spied(stage))

    def send(place: Place, number: int = signal.SIGTERM) -> None:
        wanted[place] = number

    return send


@pytest.fixture(scope="module")
def uninterrupted(frames: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Sequence[str]], Path]:
    """The run of some options from beginning to end, trained once."""
    folder = tmp_path_factory.mktemp("whole")
    known: dict[tuple[str, ...], Path] = {}

    def run(options: Sequence[str]) -> Path:
        key = tuple(options)
        if key not in known:
            name, here = f"whole-{len(known)}", Path.cwd()
            os.chdir(folder)
            try:
                assert main([*FIT, f"--data.root={frames}", *options, f"--run={name}"]) == 0
            finally:
                os.chdir(here)
            known[key] = folder / "lightning_logs" / name
        return known[key]

    return run


def fit(*options: str) -> int:
    return main([*FIT, *FIT_DATA, *options, "--run=cut"])


def resume(*options: str) -> int:
    return main(["fit", "--resume=cut", *options])


CUT = Path("lightning_logs/cut")


def equal(first: Any, second: Any) -> bool:
    """Whether two states hold the same, to the bit."""
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(equal, first, second))
    return bool(first == second)


def assert_same_run(run: Path, whole: Path) -> None:
    for name in ("history.csv", "learning_rate.csv", "split.csv"):
        assert (run / name).read_text() == (whole / name).read_text(), name
    for name in ("best.ckpt", "last.ckpt"):
        ours, theirs = (torch.load(folder / "checkpoints" / name) for folder in (run, whole))
        for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch", "current_model_state"):
            assert equal(ours.get(key), theirs.get(key)), f"{name}: {key}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("options", [[], EMA], ids=["plain", "ema"])
def test_two_breaks_in_one_epoch_and_one_in_the_next(
    send: Callable[..., None],
    uninterrupted: Callable[[Sequence[str]], Path],
    options: list[str],
    workers: int,
    number: int,
) -> None:
    loader = f"--data.num_workers={workers}"
    for place in (("training", 1, 0), ("training", 1, 2), ("training", 2, 3)):
        send(place, number)
    assert fit(*options, loader) == 128 + number
    last = torch.load(CUT / "checkpoints/last.ckpt")
    assert last["global_step"] == 6  # the very step in which the signal came
    assert "interrupted after 6 steps, 1 whole epochs" in (CUT / "run.log").read_text()
    for step in (8, 14):
        assert resume() == 128 + number
        assert torch.load(CUT / "checkpoints/last.ckpt")["global_step"] == step
    assert resume() == 0
    assert_same_run(CUT, uninterrupted([*options, "--data.num_workers=0"]))
