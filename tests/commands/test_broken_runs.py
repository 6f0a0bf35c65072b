"""What breaks under a running fit costs what came since the last save, and one line says how to go on."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from vit_lightning.cli import main
from vit_lightning.module import ViTClassifier
from vit_lightning.runs import read_numbers

FIT = ["fit", "--model.image_size=[16,32]", "--model.patch_size=8", "--model.dim=16", "--model.depth=1"]
FIT += ["--model.heads=2", "--data.batch_size=16", "--data.val_fraction=0.25", "--trainer.accelerator=cpu"]
FIT += ["--data.num_workers=0", "--trainer.log_every_n_steps=1", "--trainer.max_epochs=3", "--save_every=1e-9"]
RUN = Path("lightning_logs/broken")


@pytest.fixture(autouse=True)
def work(frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(frames, "data")
    return tmp_path


@pytest.fixture
def disk() -> Iterator[Path]:
    """A disk of 4 MB, mounted where runs are kept."""
    folder = Path("small").absolute()
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if os.name == "nt" or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a disk of its own can be mounted by root alone")
    Path("lightning_logs").symlink_to(folder)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], object]], None]:
    """Does something in the middle of a step."""
    deeds: dict[int, Callable[[], object]] = {}
    original = ViTClassifier.training_step

    def step(self: ViTClassifier, batch: Any, batch_idx: int) -> Any:
        if (deed := deeds.pop(self.trainer.global_step, None)) is not None:
            deed()
        return original(self, batch, batch_idx)

    monkeypatch.setattr(ViTClassifier, "training_step", step)

    def at_step(number: int, deed: Callable[[], object]) -> None:
        deeds[number] = deed

    return at_step


def broken(capsys: pytest.CaptureFixture[str], *options: str, status: int = 2) -> str:
    """The line of a run that breaks; it says in its last line how to go on."""
    assert main([*FIT, "--data.root=data", *options, "--run=broken"]) == status
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert captured.out.splitlines()[-1] == "to go on: fit --resume broken"
    return line


def goes_on(step: int) -> None:
    """The last good checkpoint is of this step, and the run goes on from it to its end."""
    assert torch.load(RUN / "checkpoints/last.ckpt")["global_step"] == step
    assert not list(RUN.rglob(".*.ckpt.*"))
    assert main(["fit", "--resume=broken"]) == 0
    assert [row["epoch"] for row in read_numbers(RUN / "history.csv")] == [1, 2, 3]
    assert [row["step"] for row in read_numbers(RUN / "learning_rate.csv")] == list(range(15))


def test_a_full_disk(disk: Path, at_step: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    def fill() -> None:
        with (disk / "full").open("wb") as file:
            try:
                while True:
                    file.write(bytes(4096))
                    file.flush()
            except OSError:
                pass

    at_step(7, fill)
    line = broken(capsys)
    assert "No space left on device" in line
    assert "make room" in line
    (disk / "full").unlink()
    goes_on(7)


def test_a_folder_made_read_only(disk: Path, at_step: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    def make_read_only() -> None:  # by a mount over it: the permissions do not bind root
        folder = str(RUN / "checkpoints")
        subprocess.run(["mount", "--bind", folder, folder], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)

    at_step(7, make_read_only)
    line = broken(capsys)
    subprocess.run(["umount", str(RUN / "checkpoints")], check=True)
    assert "Read-only file system" in line
    goes_on(7)


def test_a_dead_loader_process(at_step: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    def kill() -> None:
        from torch.multiprocessing import active_children

        for child in active_children():
            os.kill(child.pid or 0, signal.SIGKILL)
            child.join()

    at_step(7, kill)
    line = broken(capsys, "--data.num_workers=1")
    assert "a loader process died" in line
    assert "--data.num_workers 0" in line
    goes_on(torch.load(RUN / "checkpoints/last.ckpt")["global_step"])  # what was fetched before may be trained on


def test_pictures_that_go_away(at_step: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    at_step(7, lambda: shutil.move("data", "away"))
    line = broken(capsys, "--data.cache=none")
    assert "No such file" in line
    assert ".jpg" in line
    assert main(["fit", "--resume=broken"]) == 2
    assert "does not exist" in capsys.readouterr().err
    shutil.move("away", "data")
    goes_on(8)


def test_decoded_pictures_outlive_their_files(at_step: Callable[..., None]) -> None:
    at_step(7, lambda: shutil.move("data", "away"))
    assert main([*FIT, "--data.root=data", "--run=broken"]) == 0
