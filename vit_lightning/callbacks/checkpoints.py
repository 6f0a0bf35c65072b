"""The two checkpoints of a run, and how they reach the disk."""

import glob
import os
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from vit_lightning.files import replacing


def run_checkpoints(folder: Path) -> list[Callback]:
    """`best.ckpt` by validation accuracy and `last.ckpt` of the latest epoch.

    They are two callbacks since `save_last` moves only when the monitored value improves; best comes first, so that
    last knows of it.
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
