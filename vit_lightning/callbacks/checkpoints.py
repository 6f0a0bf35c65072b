"""The two checkpoints of a run, when they are written and how they reach the disk."""

import glob
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, Checkpoint, ModelCheckpoint
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor
from torchmetrics import Metric

from vit_lightning.callbacks.signals import GracefulStop
from vit_lightning.data.loading import progress
from vit_lightning.files import replacing
from vit_lightning.module import ViTClassifier

#: Of one process's training metrics, by name: how many batches they have seen, and their sums.
Sums = dict[str, tuple[int, dict[str, Tensor]]]


def run_checkpoints(folder: Path, save_every: float) -> list[Callback]:
    """`best.ckpt` by validation accuracy, and `last.ckpt` of the latest epoch or, within one, as `ResumableStop` says.

    They are two callbacks since `save_last` moves only when the monitored value improves; best comes first, so that
    last knows of it. A stop comes after both.

    Args:
        folder: For the two files.
        save_every: Minutes between two saves within an epoch.
    """
    return [
        RunCheckpoint(
            dirpath=folder,
            filename="best",
            monitor="val/acc",
            mode="max",
            auto_insert_metric_name=False,
            enable_version_counter=False,
            save_on_train_epoch_end=True,
        ),
        RunCheckpoint(dirpath=folder, filename="last", enable_version_counter=False, save_on_train_epoch_end=True),
        ResumableStop(folder / "last.ckpt", save_every),
    ]


class RunCheckpoint(ModelCheckpoint):
    """A ModelCheckpoint that remembers its best score when the run's folder was moved or renamed.

    Lightning drops it there, and would let a worse score take the place of the best.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the state as if it had been saved in this folder; a checkpoint that is gone is forgotten."""
        here = Path(self.dirpath or ".")
        models = {str(here / Path(path).name): score for path, score in state_dict["best_k_models"].items()}
        models = {path: score for path, score in models.items() if Path(path).is_file()}
        if not models:
            return
        moved = {
            name: str(here / Path(state_dict[name]).name) if state_dict[name] else ""
            for name in ("best_model_path", "kth_best_model_path", "last_model_path")
        }
        super().load_state_dict(state_dict | moved | {"dirpath": self.dirpath, "best_k_models": models})


class ResumableStop(GracefulStop, Checkpoint):
    """Saves within an epoch, every so often and where the run is stopped, such that it goes on to the bit.

    What is not in Lightning's own checkpoint is put there: the sums of the training metrics. The data module keeps how
    many batches were done, `BatchSeeding` has the random numbers follow from the batch alone.

    A run is stopped at the end of an optimizer step, which all processes agree on there: a signal may reach one alone,
    and at different times. While it validates, Lightning cannot be saved such that it validates again; so the state
    before the epoch's last step is kept in memory, and a run that is stopped later than that does this step once more.
    Several processes, of which one may have a batch less to validate, stop at the epoch's end instead.

    Args:
        path: Of the file that is written.
        every: Minutes between two saves within an epoch.
    """

    def __init__(self, path: Path, every: float) -> None:
        super().__init__()
        self.path = path
        self.every = 60.0 * every
        self.due = 0.0
        self.before_last: dict[str, Any] | None = None
        self.sums: list[Sums] = []  # of a checkpoint from within an epoch, for each of its processes
        self.requeue: Callable[[int, FrameType | None], Any] | None = None  # Lightning's, under SLURM
        self.requeued = False

    # Signals: every process takes them, since they agree afterwards

    def take_over(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As its parent does, in every process; and SIGUSR1, by which SLURM says that the time is nearly over."""
        super().take_over(trainer, pl_module)
        handler = signal.getsignal(signal.SIGUSR1) if hasattr(signal, "SIGUSR1") else None
        if self.on_main_thread() and callable(handler) and handler != self.note_requeue:
            self.requeue = handler
            signal.signal(signal.SIGUSR1, self.note_requeue)

    def takes_signals(self, trainer: Trainer) -> bool:
        """Every process does."""
        return True

    def note_requeue(self, number: int, frame: FrameType | None) -> None:
        """Remembers that the job is to be queued again."""
        self.requeued = True

    # Saving

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the signals, and the sums of an epoch that goes on."""
        self.take_over(trainer, pl_module)
        self.due = time.monotonic() + self.every
        if self.sums:
            load_sums(training_metrics(pl_module), own_sums(self.sums, trainer.global_rank, trainer.world_size))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What was kept is of another epoch."""
        self.before_last = None

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401  # Lightning's signature
        batch: Sequence[Tensor],
        batch_idx: int,
    ) -> None:
        """Saves where it is time, and stops where it was asked for."""
        if trainer.fit_loop._should_accumulate():
            return  # no checkpoint holds gradients that wait for more
        done, batches, step = batch_idx + 1, int(trainer.num_training_batches), trainer.accumulate_grad_batches
        over = done >= batches or trainer.global_step == trainer.max_steps
        if done == (batches - 1) // step * step or trainer.global_step == trainer.max_steps - 1:
            kept = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)  # together with all processes
            if trainer.is_global_zero:
                self.before_last = apply_to_collection(kept, Tensor, on_processor)
        stopped, due, requeued = self.agreed(trainer)
        if over:
            if stopped:
                self.save_before_last(trainer)
        elif stopped or due:
            trainer.save_checkpoint(self.path, weights_only=False)
            self.due = time.monotonic() + self.every
        if requeued and not over:
            self.requeued = False
            if self.requeue is not None:
                self.requeue(signal.SIGUSR1, None)
        self.end(stopped)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401  # Lightning's signature
        batch: Sequence[Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stops while it validates, unless other processes might not come by here, or the epoch is not over."""
        if self.received is not None and self.before_last is not None and trainer.world_size == 1:
            self.save_before_last(trainer)
            self.end(self.received)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops after the epoch's checkpoints were written, where that was asked for meanwhile."""
        self.before_last = None
        self.end(self.agreed(trainer)[0])

    def agreed(self, trainer: Trainer) -> tuple[int | None, bool, bool]:
        """What any of the processes was asked for, in all of them.

        Returns:
            The signal by which to stop, whether to save, and whether the job is to be queued again.
        """
        wanted = [self.received == signal.SIGINT, self.received == signal.SIGTERM]
        wanted += [time.monotonic() >= self.due, self.requeued]
        if trainer.world_size > 1:  # else without a word to the device
            flags = torch.tensor(wanted, dtype=torch.int64, device=trainer.strategy.root_device)
            wanted = [bool(flag) for flag in trainer.strategy.reduce(flags, reduce_op="max").tolist()]
        interrupted, ended, due, requeued = wanted
        return signal.SIGINT if interrupted else signal.SIGTERM if ended else None, due, requeued

    def save_before_last(self, trainer: Trainer) -> None:
        """Writes what was kept, if there is anything: a run of one step an epoch goes on from the epoch before."""
        if self.before_last is not None:
            trainer.strategy.save_checkpoint(self.before_last, self.path)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds the sums of the training metrics, where the epoch is not over."""
        if progress(trainer)[1]:
            checkpoint["training_sums"] = gathered(trainer, save_sums(training_metrics(pl_module)))

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keeps them until training begins."""
        self.sums = checkpoint.get("training_sums", [])


def training_metrics(pl_module: LightningModule) -> dict[str, Metric]:
    """The metrics that an epoch of training sums up, by name; of another module than ours none is known."""
    if not isinstance(pl_module, ViTClassifier):
        return {}
    return {str(name): metric for name, metric in pl_module.train_metrics.items()} | {
        "train/loss": pl_module.train_loss
    }


def save_sums(metrics: dict[str, Metric]) -> Sums:
    """What the metrics have summed up so far, on the CPU."""
    return {
        name: (metric._update_count, apply_to_collection(metric.metric_state, Tensor, on_processor))
        for name, metric in metrics.items()
    }


def on_processor(tensor: Tensor) -> Tensor:
    """A copy that nothing changes any more."""
    return tensor.detach().to("cpu", copy=True)


def load_sums(metrics: dict[str, Metric], sums: Sums) -> None:
    """Has the metrics go on from there."""
    for name, (count, state) in sums.items():
        metric = metrics[name]
        metric._update_count, metric._computed = count, None
        for key, value in state.items():
            setattr(metric, key, value.to(metric.device))


def own_sums(saved: list[Sums], rank: int, processes: int) -> Sums:
    """What one of so many processes goes on with: its own or, where they were more or fewer, the first one has all."""
    if len(saved) == processes:
        return saved[rank]
    if rank > 0:
        return {}
    return {
        name: (
            sum(sums[name][0] for sums in saved),
            {key: torch.stack([sums[name][1][key] for sums in saved]).sum(dim=0) for key in saved[0][name][1]},
        )
        for name in saved[0]
    }


def gathered(trainer: Trainer, own: Sums) -> list[Sums]:
    """That of every process, in all of them."""
    if trainer.world_size == 1:
        return [own]
    everyone: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(everyone, own)
    return everyone


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames: whenever the process dies, the file of that name is a whole one."""

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | os.PathLike[str],
        storage_options: Any = None,  # noqa: ANN401  # Lightning's signature
    ) -> None:
        """Saves through a temporary file in the same folder, flushed to the disk before it takes the name."""
        target = Path(path)
        for left in target.parent.glob(f".{glob.escape(target.name)}.*"):  # by a kill; each is as large as a checkpoint
            left.unlink()
        with replacing(target) as temporary:
            super().save_checkpoint(checkpoint, temporary, storage_options)

    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        map_location: Any = None,  # noqa: ANN401  # Lightning's signature
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Reads numbers, words and tensors alone, whatever was asked for: nothing in a checkpoint is executed."""
        return super().load_checkpoint(Path(path), map_location, weights_only=True)
