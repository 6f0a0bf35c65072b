"""The record of a run: its state, its numbers epoch by epoch, and their picture."""

import csv
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

from vit_lightning.runs import now, write_status

log = logging.getLogger(__name__)

SCORES = ("train/loss", "train/acc", "train/f1", "val/loss", "val/acc", "val/f1")


class EventLog(TensorBoardLogger):
    """TensorBoard's events directly in the run's folder, without Lightning's `hparams.yaml` beside `config.yaml`.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder.parent, name="", version=folder.name, default_hp_metric=False)

    @rank_zero_only
    def save(self) -> None:
        """Flushes the events to the disk."""
        self.experiment.flush()


class History(Callback):
    """Keeps `status.json`, `history.csv`, `learning_rate.csv` and `training_curves.png`, and prints a line an epoch.

    Args:
        folder: The run's folder, which exists.
        facts: What `status.json` says of data and split, beside the run's own progress.
    """

    def __init__(self, folder: Path, facts: dict[str, Any] | None = None) -> None:
        self.folder = folder
        self.status: dict[str, Any] = {"state": "running", "started": now(), **(facts or {})}
        self.rows: list[dict[str, float]] = []
        self.rates: list[tuple[int, float]] = []
        self.unwritten_rates = 0
        self.epoch_began = 0.0
        self.validated = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The run is under way."""
        if trainer.is_global_zero:
            self.status |= {"epochs": 0, "max_epochs": trainer.max_epochs}
            write_status(self.folder, self.status)
            append_rows(self.folder / "history.csv", [("epoch", *SCORES)])
            append_rows(self.folder / "learning_rate.csv", [("step", "lr")])

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the epoch's clock."""
        self.epoch_began = time.perf_counter()
        self.validated = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The validation scores are this epoch's."""
        self.validated = True

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Notes the learning rate that this step uses."""
        rate = float(optimizer.param_groups[0]["lr"])
        pl_module.log("train/lr", rate, on_step=True, on_epoch=False)
        self.rates.append((trainer.global_step, rate))
        self.unwritten_rates += 1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the epoch down; validation has run by now."""
        # Reading the metrics gathers them from all processes, so every one of them has to come by here.
        scores = {name: round(float(value), 6) for name, value in trainer.callback_metrics.items() if name in SCORES}
        if not self.validated:  # Lightning still shows those of an earlier epoch
            scores = {name: value for name, value in scores.items() if not name.startswith("val/")}
        if not trainer.is_global_zero:
            return
        epoch = trainer.current_epoch + 1
        self.rows.append({"epoch": float(epoch), **scores})
        append_rows(self.folder / "history.csv", [(epoch, *(scores.get(name, "") for name in SCORES))])
        self.write_rates()

        best = self.status.get("best")
        improved = "val/acc" in scores and (best is None or scores["val/acc"] > best["val/acc"])
        if improved:
            self.status["best"] = {"epoch": epoch, **scores}
        self.status |= {"epochs": epoch, "last": {"epoch": epoch, **scores}}
        write_status(self.folder, self.status)

        line = f"epoch {epoch:>{len(str(trainer.max_epochs))}}/{trainer.max_epochs}"
        for part in ("train", "val"):
            if f"{part}/loss" in scores:
                line += f"  {part} loss {scores[f'{part}/loss']:.3f}"
            if f"{part}/acc" in scores:
                line += f" acc {scores[f'{part}/acc']:.3f}"
        seconds = time.perf_counter() - self.epoch_began
        log.info("%s  %s%s", line, f"{seconds:.0f}s", " *" if improved else "")  # within 80 columns

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The run went through."""
        if trainer.is_global_zero:
            self.close("finished")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """The run was stopped or broke; what it has so far is kept."""
        if trainer.is_global_zero and self.status["state"] == "running":
            self.close("interrupted" if isinstance(exception, KeyboardInterrupt | SIGTERMException) else "failed")

    def close(self, state: str) -> None:
        """Writes the final state, the remaining learning rates and the curves."""
        self.write_rates()
        if self.rows:
            draw_curves(self.rows, self.rates, self.folder / "training_curves.png")
        self.status |= {"state": state, "ended": now()}
        write_status(self.folder, self.status)

    def write_rates(self) -> None:
        """Appends the learning rates noted since the last call."""
        append_rows(self.folder / "learning_rate.csv", self.rates[len(self.rates) - self.unwritten_rates :])
        self.unwritten_rates = 0


def append_rows(path: Path, rows: Sequence[Sequence[object]]) -> None:
    """Appends rows to a CSV file."""
    with path.open("a", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def draw_curves(rows: Sequence[dict[str, float]], rates: Sequence[tuple[int, float]], path: Path) -> None:
    """Draws loss and accuracy by epoch and the learning rate by step, side by side, into a PNG.

    Args:
        rows: An epoch each: `epoch` and whichever of `SCORES` it has.
        rates: Step and learning rate of every optimizer step.
        path: The PNG.
    """
    from matplotlib.figure import Figure  # not pyplot: no window system, no global state

    figure = Figure(figsize=(13, 3.8), layout="constrained")
    loss, accuracy, rate = figure.subplots(1, 3)
    for axes, score in ((loss, "loss"), (accuracy, "acc")):
        for part, colour in (("train", "tab:blue"), ("val", "tab:orange")):
            points = [(row["epoch"], row[f"{part}/{score}"]) for row in rows if f"{part}/{score}" in row]
            if points:
                axes.plot(*zip(*points, strict=True), color=colour, marker="." if len(points) < 30 else "", label=part)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    loss.set_title("loss")
    best = max((row for row in rows if "val/acc" in row), key=lambda row: row["val/acc"], default=None)
    accuracy.set_title("accuracy")
    if best is not None:
        accuracy.set_title(f"accuracy (best val {best['val/acc']:.4f} in epoch {best['epoch']:.0f})")
        accuracy.plot(best["epoch"], best["val/acc"], "o", color="tab:orange", markerfacecolor="none", markersize=9)
    rate.plot(*zip(*rates, strict=True), color="tab:green")
    rate.set_title("learning rate")
    rate.set_xlabel("step")
    rate.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
