"""The two checkpoints of a run, and how they reach the disk."""

import os
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, ModelCheckpoint


def run_checkpoints(folder: Path) -> list[Callback]:
    """`best.ckpt` by validation accuracy and `last.ckpt` of the latest epoch.

    They are two callbacks since `save_last` moves only when the monitored value improves; best comes first, so that
    last knows of it.
    """
    return [
        ModelCheckpoint(
            dirpath=folder,
            filename="best",
            monitor="val/acc",
            mode="max",
            auto_insert_metric_name=False,
            enable_version_counter=False,
            save_on_train_epoch_end=True,
        ),
        ModelCheckpoint(dirpath=folder, filename="last", enable_version_counter=False, save_on_train_epoch_end=True),
    ]


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
        temporary = target.with_name(f".{target.name}.tmp")
        try:
            super().save_checkpoint(checkpoint, temporary, storage_options)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
