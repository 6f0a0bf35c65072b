"""The record of a run: its state, its numbers epoch by epoch, and their picture."""

import csv
import logging
import os
import platform
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

from vit_lightning.checkpoint import whole_epochs
from vit_lightning.evaluation.figures import draw_curves, save_png
from vit_lightning.hardware import device_name
from vit_lightning.runs import now, read_numbers, write_status

log = logging.getLogger(__name__)

#: Seconds between two writings of what single steps have brought: for whoever watches a run in a long epoch.
SHOWN_EVERY = 1.0

SCORES = ("train/loss", "train/acc", "train/f1", "val/loss", "val/acc", "val/f1")


class EventLog(TensorBoardLogger):
    """TensorBoard's events directly in the run's folder, without Lightning's `hparams.yaml` beside `config.yaml`.

    Args:
        folder: The run's folder.
        purge_step: For a run that goes on: TensorBoard forgets what an earlier attempt wrote from this step on.
    """

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        super().__init__(folder.parent, name="", version=folder.name, default_hp_metric=False, purge_step=purge_step)

    @rank_zero_only
    def log_hyperparams(
        self,
        params: dict[str, Any] | Namespace,
        metrics: dict[str, Any] | None = None,
        step: int | None = None,
    ) -> None:
        """Keeps them for `log_result`: TensorBoard shows no score for those that are written before there is one."""
        self.hparams.update(vars(params) if isinstance(params, Namespace) else params)

    @rank_zero_only
    def log_result(self, score: float, step: int) -> None:
        """Writes the hyper-parameters with the run's score, a row of the HParams tab."""
        told = {name: value for name, value in self.hparams.items() if name != "class_names" and value is not None}
        super().log_hyperparams(told, {"hp/val_acc": score}, step)

    @rank_zero_only
    def log_baselines(self, lines: Sequence[str]) -> None:
        """Writes what the scores have to beat as a text; as numbers they would be the cards that one sees first.

        Args:
            lines: Paragraphs, in Markdown.
        """
        self.experiment.add_text("baselines", "\n\n".join(lines), 0)

    @rank_zero_only
    def save(self) -> None:
        """Flushes the events to the disk."""
        self.experiment.flush()


class History(Callback):
    """Keeps `status.json`, `history.csv`, `learning_rate.csv` and `training_curves.png`, and prints a line an epoch.

    Args:
        folder: The run's folder, which exists.
        facts: What `status.json` says of data and split, beside the run's own progress; a run that goes on has its
            former status here.
        on_begin: Called when training begins, after a checkpoint was taken in: until then nothing of a run that goes
            on is changed.
    """

    def __init__(
        self, folder: Path, facts: dict[str, Any] | None = None, on_begin: Callable[[], None] | None = None
    ) -> None:
        self.folder = folder
        self.on_begin = on_begin
        # A run that goes on stays as it was until the first step is near: what fails before that has not harmed it.
        self.untouched = bool(facts and "state" in facts)
        # `started` first, so that a run that goes on keeps its own; `state` last, whatever the former one was.
        self.status: dict[str, Any] = {"state": "running", "started": now()} | (facts or {}) | {"state": "running"}
        # By host and lock `runs` tells a run that was killed from one that still runs; the pid is for people.
        self.status |= {"host": platform.node(), "pid": os.getpid()}
        self.status.pop("ended", None)
        self.rows: list[dict[str, float]] = []
        self.rates: list[tuple[int, float]] = []
        self.unwritten_rates = 0
        self.shown = 0.0  # when the steps were last written
        self.epoch_began = 0.0
        self.began, self.spent = 0.0, 0.0  # of this session, and seconds of earlier ones
        self.images, self.seconds, self.since = 0, 0.0, 0.0  # trained on in this session, pauses left out
        self.in_epoch = False
        self.epochs_done = 0
        self.validated = False

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """How far the run had come: rows of later epochs, whose weights are lost, will be left out."""
        self.epochs_done = whole_epochs(checkpoint)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """What belongs to the steps of the checkpoint is on the disk before it is."""
        if trainer.is_global_zero and not self.untouched:
            self.write_rates()
            for logger in trainer.loggers:
                logger.save()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The run is under way; the Trainer is known only now, with `max_epochs` as flags and defaults have it."""
        if trainer.is_global_zero and not self.untouched:
            self.status |= {"epochs": 0, "max_epochs": trainer.max_epochs}
            write_status(self.folder, self.status)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins the tables; a run that goes on keeps its rows up to the checkpoint, and forgets later ones.

        Checkpoint, optimizer and data are there by now, all that a flag could have spoilt.
        """
        if not trainer.is_global_zero:
            return
        self.untouched = False
        if self.on_begin is not None:
            self.on_begin()
        self.status |= {"max_epochs": trainer.max_epochs, "device": device_name(trainer)}
        self.began, self.spent = time.perf_counter(), self.status.get("seconds", 0.0)
        history, rates = self.folder / "history.csv", self.folder / "learning_rate.csv"
        self.rows = [row for row in read_numbers(history) if row["epoch"] <= self.epochs_done]
        self.rates = [(int(row["step"]), row["lr"]) for row in read_numbers(rates) if row["step"] < trainer.global_step]
        write_rows(history, [("epoch", *SCORES), *map(history_row, self.rows)])
        write_rows(rates, [("step", "lr"), *self.rates])
        self.tell_progress()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the epoch's clock."""
        self.epoch_began = self.since = time.perf_counter()
        self.in_epoch = True
        self.validated = False

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Sequence[torch.Tensor],
        batch_idx: int,
    ) -> None:
        """An epoch in whose middle the run goes on does not start for Lightning."""
        if not self.in_epoch:
            self.on_train_epoch_start(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The validation scores are this epoch's; what it took is no training."""
        self.validated = True
        self.since = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401  # Lightning's signature
        batch: Sequence[torch.Tensor],
        batch_idx: int,
    ) -> None:
        """Counts one batch, of all processes together."""
        before, self.since = self.since, time.perf_counter()
        self.images += len(batch[0]) * trainer.world_size
        self.seconds += self.since - before
        if trainer.is_global_zero and self.since - self.shown > SHOWN_EVERY:
            self.shown = self.since
            self.show_steps(trainer)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Notes the learning rate that this step uses."""
        # Not with Lightning's LearningRateMonitor, which leaves out all steps but every `log_every_n_steps`-th; all
        # groups have the same rate. The hook comes once an optimizer step, however many batches it takes.
        rate = float(optimizer.param_groups[0]["lr"])
        pl_module.log("train/lr", rate, on_step=True, on_epoch=False)
        self.rates.append((trainer.global_step, rate))
        self.unwritten_rates += 1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the epoch down; validation has run by now, the checkpoints come after all other callbacks."""
        # Reading the metrics gathers them from all processes, so every one of them has to come by here.
        scores = {name: round(float(value), 6) for name, value in trainer.callback_metrics.items() if name in SCORES}
        if not self.validated:  # Lightning still shows those of an earlier epoch
            scores = {name: value for name, value in scores.items() if not name.startswith("val/")}
        if not trainer.is_global_zero:
            return
        epoch = trainer.current_epoch + 1
        if not self.in_epoch:
            return  # Lightning ends the last epoch of a checkpoint once more
        self.in_epoch = False
        # A line is added, nothing written anew: a kill loses one row at most, which `read_numbers` then leaves out.
        self.rows.append({"epoch": float(epoch), **scores})
        write_rows(self.folder / "history.csv", [history_row(self.rows[-1])], append=True)
        self.write_rates()

        self.tell_progress()
        improved = "best" in self.status and self.status["best"]["epoch"] == epoch
        of_all = f"/{trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else ""
        line = f"epoch {epoch:>{max(1, len(of_all) - 1)}}{of_all}"
        for part in ("train", "val"):
            if f"{part}/loss" in scores:
                line += f"  {part} loss {scores[f'{part}/loss']:.3f}"
            if f"{part}/acc" in scores:
                line += f" acc {scores[f'{part}/acc']:.3f}"
        seconds = time.perf_counter() - self.epoch_began
        log.info("%s  %s%s", line, f"{seconds:.0f}s", " *" if improved else "")  # within 80 columns

    def show_steps(self, trainer: Trainer) -> None:
        """Puts learning rates and TensorBoard's numbers of the steps so far on the disk."""
        self.write_rates()
        for logger in trainer.loggers:
            if isinstance(logger, EventLog):
                logger.save()

    def tell_progress(self) -> None:
        """Brings `status.json` up to the rows; `best` and `last` follow from them alone, in a run that goes on too."""
        self.status["epochs"] = int(self.rows[-1]["epoch"]) if self.rows else 0
        for name, row in (("best", best_row(self.rows)), ("last", self.rows[-1] if self.rows else None)):
            self.status.pop(name, None)
            if row is not None:
                self.status[name] = row | {"epoch": int(row["epoch"])}
        self.tell_time()
        write_status(self.folder, self.status)

    def tell_time(self) -> None:
        """Seconds of training with all its pauses, earlier sessions included, and images a second without."""
        if not self.began:
            return
        self.status["seconds"] = round(self.spent + time.perf_counter() - self.began, 1)
        if self.images:
            self.status["images_per_second"] = round(self.images / self.seconds, 1)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The run went through.

        Raises:
            ValueError: Without a single step; such a run has not finished, but failed.
        """
        if self.untouched and self.epochs_done and not self.rates:  # it was killed behind its last checkpoint
            self.on_train_start(trainer, pl_module)
        elif not self.rates:  # of every process, so that all of them end
            if trainer.limit_train_batches == 0:
                raise ValueError("there was nothing to train: trainer.limit_train_batches is 0")
            limits = f"trainer.max_epochs is {trainer.max_epochs} and max_steps {trainer.max_steps}"
            raise ValueError(f"there was nothing to train: {limits}, and {self.epochs_done} epochs are done; give more")
        if trainer.is_global_zero:
            self.close("finished", trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """The run was stopped or broke; what it has so far is kept.

        Lightning comes by here for every exception, Ctrl-C and SIGTERM among them, and raises it again afterwards. One
        that another callback raises after `on_fit_end` does not change how the run ended.
        """
        if trainer.is_global_zero and self.status["state"] == "running" and not self.untouched:
            stopped = isinstance(exception, KeyboardInterrupt | SIGTERMException)
            self.close("interrupted" if stopped else "failed", trainer)

    def close(self, state: str, trainer: Trainer) -> None:
        """Writes the final state, the remaining learning rates, the curves and TensorBoard's row for the run.

        The state comes last: who reads `finished` finds all the rest.
        """
        if self.untouched:
            return
        self.write_rates()
        if "best" in self.status:
            for logger in trainer.loggers:
                if isinstance(logger, EventLog):
                    logger.log_result(self.status["best"]["val/acc"], trainer.global_step)
        if self.rows:
            figure = draw_curves(self.rows, self.rates, self.status.get("baselines", {}))
            save_png(figure, self.folder / "training_curves.png")
        self.tell_time()
        self.status |= {"state": state, "ended": now()}
        write_status(self.folder, self.status)

    def write_rates(self) -> None:
        """Appends the learning rates noted since the last call."""
        write_rows(self.folder / "learning_rate.csv", self.rates[len(self.rates) - self.unwritten_rates :], append=True)
        self.unwritten_rates = 0


def best_row(rows: Sequence[dict[str, float]]) -> dict[str, float] | None:
    """The first row with the best validation accuracy, if any was validated."""
    return max((row for row in rows if "val/acc" in row), key=lambda row: row["val/acc"], default=None)


def history_row(row: dict[str, float]) -> tuple[object, ...]:
    """A row of `history.csv`."""
    return int(row["epoch"]), *(row.get(name, "") for name in SCORES)


def write_rows(path: Path, rows: Sequence[Sequence[object]], *, append: bool = False) -> None:
    """Writes a CSV file, or adds rows to it."""
    with path.open("a" if append else "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
