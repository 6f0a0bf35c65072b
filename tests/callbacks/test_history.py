"""The record of a run whose scores are known."""

import csv
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray
from torch.utils.data import DataLoader, TensorDataset

from vit_lightning.callbacks.history import EventLog, History

ACCURACIES = (0.25, 0.5, 0.5, 0.375)


class Scripted(LightningModule):
    """Logs scores that the test knows; may break in an epoch."""

    def __init__(self, breaks_in: int | None = None, error: type[BaseException] = RuntimeError) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.breaks_in, self.error = breaks_in, error

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.current_epoch == self.breaks_in:
            raise self.error
        self.log("train/loss", 2.0 - 0.5 * self.current_epoch, on_step=False, on_epoch=True)
        self.log("train/acc", 0.125, on_step=False, on_epoch=True)
        return self.weight.sum()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log_dict({"val/acc": ACCURACIES[self.current_epoch], "val/loss": 1.5, "val/f1": 0.1})

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def record(folder: Path, module: Scripted, **changes: Any) -> None:
    loader = DataLoader(TensorDataset(torch.zeros(4, 1)), batch_size=1)
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "max_epochs": 4,
        "callbacks": [History(folder, {"data": {"name": "frames"}})],
    }
    Trainer(**(settings | changes)).fit(module, loader, loader)


def status(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "status.json").read_text())
    return content


def test_scores_reach_the_files_as_they_are(tmp_path: Path) -> None:
    record(tmp_path, Scripted())
    with (tmp_path / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["train/loss"]) for row in rows] == [2.0, 1.5, 1.0, 0.5]
    assert [float(row["val/acc"]) for row in rows] == list(ACCURACIES)
    assert rows[0]["train/f1"] == ""  # never logged: left empty, not 0
    told = status(tmp_path)
    assert told["state"] == "finished"
    assert told["data"] == {"name": "frames"}
    assert (told["best"]["epoch"], told["best"]["val/acc"]) == (2, 0.5)  # the first of two equals
    assert (told["last"]["epoch"], told["last"]["val/acc"]) == (4, 0.375)
    assert told["started"] <= told["ended"]


@pytest.mark.parametrize(("accumulate", "steps"), [(1, 16), (2, 8)])
def test_one_learning_rate_an_optimizer_step(tmp_path: Path, accumulate: int, steps: int) -> None:
    record(tmp_path, Scripted(), accumulate_grad_batches=accumulate)
    with (tmp_path / "learning_rate.csv").open(newline="") as file:
        rows = [(int(row["step"]), float(row["lr"])) for row in csv.DictReader(file)]
    assert [step for step, _ in rows] == list(range(steps))
    assert [rate for _, rate in rows] == pytest.approx([1 / (step + 1) for step in range(steps)])


@pytest.mark.parametrize(("error", "state"), [(RuntimeError, "failed"), (KeyboardInterrupt, "interrupted")])
def test_what_a_broken_run_had_is_kept(
    tmp_path: Path, error: type[BaseException], state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)  # Lightning would switch Ctrl-C off for the tests after this
    with pytest.raises((error, SystemExit)):
        record(tmp_path, Scripted(breaks_in=2, error=error))
    assert status(tmp_path)["state"] == state
    assert status(tmp_path)["epochs"] == 2
    assert (tmp_path / "history.csv").read_text().count("\n") == 3
    assert (tmp_path / "learning_rate.csv").read_text().count("\n") == 1 + 8
    assert (tmp_path / "training_curves.png").is_file()


def test_seconds_and_images_a_second_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that ticks once a look: between two batches, of one image each, it is looked at once."""
    ticks = itertools.count(100)
    monkeypatch.setattr("vit_lightning.callbacks.history.time.perf_counter", lambda: float(next(ticks)))
    record(tmp_path, Scripted(), max_epochs=2)
    told = status(tmp_path)
    assert told["images_per_second"] == 1.0
    assert told["device"] == "cpu"
    assert 8 <= told["seconds"] < next(ticks) - 100  # at least a tick for each of the batches


def test_a_run_that_goes_on_adds_its_time_up(tmp_path: Path) -> None:
    record(tmp_path, Scripted(), callbacks=[History(tmp_path, {"state": "interrupted", "seconds": 1000.0})])
    assert 1000 <= status(tmp_path)["seconds"] < 1060


def test_a_run_that_never_began_tells_no_time(tmp_path: Path) -> None:
    history = History(tmp_path)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    history.on_fit_start(trainer, Scripted())
    history.on_exception(trainer, Scripted(), RuntimeError())
    assert (status(tmp_path)["state"], "seconds" in status(tmp_path)) == ("failed", False)


def test_a_run_without_validation_is_recorded_too(tmp_path: Path) -> None:
    record(tmp_path, Scripted(), limit_val_batches=0)
    assert "best" not in status(tmp_path)
    assert status(tmp_path)["last"]["train/acc"] == 0.125


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ({"max_epochs": 0}, "max_epochs is 0 and max_steps -1, and 0 epochs are done"),
        ({"max_steps": 0}, "max_steps 0"),
        ({"limit_train_batches": 0}, "limit_train_batches"),
    ],
)
def test_a_run_without_a_step_has_not_finished(tmp_path: Path, limit: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=f"there was nothing to train: .*{words}"):
        record(tmp_path, Scripted(), **limit)
    assert (status(tmp_path)["state"], status(tmp_path)["epochs"]) == ("failed", 0)


def test_the_baselines_are_a_text_and_no_cards(tmp_path: Path) -> None:
    logger = EventLog(tmp_path / "run")
    logger.log_baselines(["val acc to beat: majority 0.351", "45 % have a near-duplicate: the split leaks"])
    logger.save()
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    assert events.Tags()["scalars"] == []
    (text,) = make_ndarray(events.Tensors("baselines/text_summary")[0].tensor_proto).tolist()
    assert text.decode() == "val acc to beat: majority 0.351\n\n45 % have a near-duplicate: the split leaks"
