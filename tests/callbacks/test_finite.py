"""A run whose numbers are none any more ends as failed, with the weights of before."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset

from vit_lightning.callbacks.checkpoints import run_checkpoints
from vit_lightning.callbacks.finite import StopAtNaN
from vit_lightning.callbacks.history import History
from vit_lightning.cli import main


class Breaking(LightningModule):
    """Something of it becomes NaN in its third epoch."""

    def __init__(self, what: str, lr: float = 0.5, at: int = 3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.what = what
        self.at = at
        self.steps = 0

    def number(self, what: str) -> float:
        return math.nan if self.current_epoch == 2 and what == self.what else 1.0

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.steps += 1
        loss = self.number("train") * self.weight.sum()
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == self.at:  # of four, so that the last one is the epoch's
            self.weight.data *= self.number("weight")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        assert self.weight.isfinite().all()
        self.log_dict({"val/acc": 0.1 * self.current_epoch, "val/loss": self.number("val")})

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Watcher(Callback):
    """Would draw what was validated."""

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert trainer.callback_metrics["val/loss"].isfinite()


def fit(folder: Path, module: Breaking, save_every: float = 5, **changes: Any) -> None:
    loader = DataLoader(TensorDataset(torch.zeros(4, 1)), batch_size=1)
    callbacks = [StopAtNaN(), History(folder), Watcher(), *run_checkpoints(folder, save_every)]
    settings: dict[str, Any] = {"max_epochs": 4, "log_every_n_steps": 50, "logger": False, "accelerator": "cpu"}
    silent = {"enable_progress_bar": False, "enable_model_summary": False}
    Trainer(**(settings | silent | changes), callbacks=callbacks).fit(module, loader, loader)


@pytest.mark.parametrize(
    ("what", "words"), [("train", "a weight"), ("val", "the validation loss"), ("weight", "a weight")]
)
def test_the_weights_of_the_epoch_before_are_kept(tmp_path: Path, what: str, words: str) -> None:
    changes = {} if what == "val" else {"limit_val_batches": 0}
    error = rf"{words} in epoch 3 is nan: training has failed; lower --model\.lr \(0\.5\); the checkpoints from before"
    with pytest.raises(ValueError, match=error):
        fit(tmp_path, Breaking(what), **changes)
    for name in ("last.ckpt", *(["best.ckpt"] if what == "val" else [])):
        checkpoint = torch.load(tmp_path / name)
        assert checkpoint["epoch"] == 1
        assert checkpoint["state_dict"]["weight"].isfinite().all()
    told = json.loads((tmp_path / "status.json").read_text())
    assert (told["state"], told["epochs"], told["last"]["epoch"]) == ("failed", 2, 2)
    assert "nan" not in (tmp_path / "history.csv").read_text().lower()
    assert "NaN" not in (tmp_path / "status.json").read_text()


def test_spoilt_weights_are_not_validated(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a weight in epoch 3 is nan"):
        fit(tmp_path, Breaking("weight"))


@pytest.mark.parametrize(("every", "steps"), [(1, 9), (2, 10), (50, 11), (0, 11)])
def test_it_does_not_wait_for_the_end_of_a_long_epoch(tmp_path: Path, every: int, steps: int) -> None:
    """Where the loss is logged anyhow, and before the last step; the third epoch begins with the ninth step."""
    module = Breaking("train")
    with pytest.raises(ValueError, match=r"(the training loss|a weight) in epoch 3 is nan"):
        fit(tmp_path, module, log_every_n_steps=every)
    assert module.steps == steps


def test_a_sound_run_goes_through(tmp_path: Path) -> None:
    fit(tmp_path, Breaking("nothing"))
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "finished"


def test_from_the_command_line(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny = ["--model.image_size=16", "--model.patch_size=8", "--model.dim=16", "--model.depth=1", "--model.heads=2"]
    tiny += ["--data.num_workers=0", "--trainer.accelerator=cpu", "--trainer.max_epochs=2"]
    command = ["fit", f"--data.root={frames}", *tiny, "--trainer.gradient_clip_val=null", "--run=wild"]
    # Each step makes the weights 1e12 times as large.
    assert main([*command, "--data.batch_size=4", "--model.lr=1e6", "--model.weight_decay=1e6"]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert "in epoch 1 is nan: training has failed; lower --model.lr (1e+06)" in line
    assert "invalid value" not in captured.out  # of pictures of nothing
    run = Path("lightning_logs/wild")
    assert json.loads((run / "status.json").read_text())["state"] == "failed"
    assert not list(run.rglob("*.ckpt"))
    assert line in (run / "run.log").read_text()
    assert main(["predict"]) == 2
    assert "no finished run" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_stop_together(frames: Path, tmp_path: Path) -> None:
    """The loss is read on both; neither waits for the other."""
    command = [sys.executable, str(Path(__file__).parent.parent.parent / "cli.py"), "fit", f"--data.root={frames}"]
    command += ["--model.image_size=16", "--model.patch_size=8", "--model.dim=16", "--model.depth=1", "--model.heads=2"]
    command += ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu", "--data.num_workers=0"]
    command += ["--model.weight_decay=1e6", "--trainer.log_every_n_steps=1", "--trainer.gradient_clip_val=null", "--model.lr=1e6", "--run=wild"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 2
    assert "training has failed; lower --model.lr" in done.stderr
    assert json.loads((tmp_path / "lightning_logs/wild/status.json").read_text())["state"] == "failed"


def test_weights_spoilt_within_an_epoch_are_not_saved(tmp_path: Path) -> None:
    """Saved with every step, and nothing is looked at before."""
    module = Breaking("weight", at=1)
    with pytest.raises(ValueError, match="a weight in epoch 3 is nan"):
        fit(tmp_path, module, save_every=0, log_every_n_steps=0)
    last = torch.load(tmp_path / "last.ckpt")
    assert last["global_step"] == 10
    assert last["state_dict"]["weight"].isfinite().all()
