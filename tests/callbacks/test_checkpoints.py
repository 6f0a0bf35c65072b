"""Checkpoints: last moves every epoch, best does not, and no half file ever has the name."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset

from vit_lightning.callbacks.checkpoints import AtomicCheckpointIO, run_checkpoints


class Falling(LightningModule):
    """Its validation accuracy is best in the second epoch."""

    accuracies = (0.2, 0.9, 0.5, 0.9)

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self.weight.sum()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/acc", self.accuracies[self.current_epoch])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def test_best_stays_while_last_moves_on(tmp_path: Path) -> None:
    loader = DataLoader(TensorDataset(torch.zeros(2, 1)))
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        max_epochs=4,
        callbacks=run_checkpoints(tmp_path, save_every=5),
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Falling(), loader, loader)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt"]
    best, last = torch.load(tmp_path / "best.ckpt"), torch.load(tmp_path / "last.ckpt")
    assert best["epoch"] == 1  # the first of the two that reach 0.9
    assert best["state_dict"]["weight"].item() == -4.0  # two steps in each of two epochs
    assert last["epoch"] == 3
    assert last["state_dict"]["weight"].item() == -8.0
    (state,) = [state for name, state in last["callbacks"].items() if "val/acc" in name]
    assert state["best_model_score"].item() == pytest.approx(0.9)  # last knows of best, for resuming


def test_a_save_that_breaks_off_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)

    def breaks(self: TorchCheckpointIO, checkpoint: dict[str, Any], path: Path, storage_options: Any = None) -> None:
        Path(path).write_bytes(b"half a file")
        raise OSError("no space left on device")

    monkeypatch.setattr(TorchCheckpointIO, "save_checkpoint", breaks)
    with pytest.raises(OSError, match="no space"):
        AtomicCheckpointIO().save_checkpoint({"epoch": 2}, path)
    assert torch.load(path) == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_what_a_kill_left_is_taken_away(tmp_path: Path) -> None:
    """Each would be as large as a checkpoint."""
    (tmp_path / ".last.ckpt.0123abcd").write_bytes(b"half a file")
    (tmp_path / ".best.ckpt.0123abcd").write_bytes(b"of the other one")
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, tmp_path / "last.ckpt")
    assert sorted(file.name for file in tmp_path.iterdir()) == [".best.ckpt.0123abcd", "last.ckpt"]
