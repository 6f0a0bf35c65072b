"""A run that was stopped and went on is the run that was not: weights, optimizer, metrics and history to the bit."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.kills import campaign
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

#: All that the recommended recipe has beyond the paper, and averaged running means.
RECIPE = ["--model.stem=conv", "--model.pool=gap", "--model.optimizer=muon", "--model.cutmix=0.5"]
RECIPE += ["--data.augment=strong"]
FULL = [*EMA, *RECIPE]

#: The guide has weights, running means and a state in the optimizer, too, none of which the model's weights hold.
GUIDED = [*RECIPE, "--model.guide=1"]

SameRun = Callable[[Path, Path], None]


@pytest.fixture(autouse=True)
def work(frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    FIT_DATA[:] = [f"--data.root={frames}"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background would ignore it
    yield
    signal.signal(signal.SIGINT, before)


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("options", [[], EMA, FULL, GUIDED], ids=["plain", "ema", "full", "guided"])
def test_two_breaks_in_one_epoch_and_one_in_the_next(
    send: Callable[..., None],
    uninterrupted: Callable[[Sequence[str]], Path],
    same_run: SameRun,
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
    assert "interrupted after 6 steps, 1 whole epoch" in (CUT / "run.log").read_text()
    for step in (8, 14):
        assert resume() == 128 + number
        assert torch.load(CUT / "checkpoints/last.ckpt")["global_step"] == step
    assert resume() == 0
    same_run(CUT, uninterrupted([*options, "--data.num_workers=0"]))


@pytest.mark.parametrize("place", [("training", 1, 4), ("validation", 1, 0)])
@pytest.mark.parametrize("options", [[], EMA], ids=["plain", "ema"])
def test_a_stop_after_the_last_batch_goes_on_from_the_one_before(
    send: Callable[..., None],
    uninterrupted: Callable[[Sequence[str]], Path],
    same_run: SameRun,
    options: list[str],
    place: Place,
) -> None:
    """Lightning would not validate the epoch; with averaged weights, what is saved meanwhile has the two swapped."""
    send(place)
    assert fit(*options) == 143
    assert torch.load(CUT / "checkpoints/last.ckpt")["global_step"] == 9
    assert resume() == 0
    same_run(CUT, uninterrupted(options))


@pytest.mark.parametrize(("place", "step"), [(("training", 1, 0), 4), (("training", 1, 4), 5)])
def test_gradients_that_wait_for_more_are_let_through(
    send: Callable[..., None],
    uninterrupted: Callable[[Sequence[str]], Path],
    same_run: SameRun,
    place: Place,
    step: int,
) -> None:
    """Three steps an epoch, of two batches, two and one."""
    options = ["--trainer.accumulate_grad_batches=2"]
    send(place)
    assert fit(*options) == 143
    assert torch.load(CUT / "checkpoints/last.ckpt")["global_step"] == step
    assert resume() == 0
    same_run(CUT, uninterrupted(options))


@pytest.mark.parametrize(("place", "step"), [(("training", 1, 0), 1), (("validation", 1, 0), 2)])
def test_an_epoch_of_one_step_goes_on_from_its_beginning_or_its_end(
    send: Callable[..., None],
    uninterrupted: Callable[[Sequence[str]], Path],
    same_run: SameRun,
    place: Place,
    step: int,
) -> None:
    options = ["--data.batch_size=80"]
    send(place)
    assert fit(*options) == 143
    assert torch.load(CUT / "checkpoints/last.ckpt")["global_step"] == step
    assert resume() == 0
    same_run(CUT, uninterrupted(options))


def test_another_number_of_loader_processes_changes_nothing(
    send: Callable[..., None], uninterrupted: Callable[[Sequence[str]], Path], same_run: SameRun
) -> None:
    send(("training", 1, 1))
    assert fit("--data.num_workers=2") == 143
    assert resume("--data.num_workers=1") == 0
    same_run(CUT, uninterrupted(["--data.num_workers=0"]))


def test_what_was_saved_in_time_outlives_a_crash(
    monkeypatch: pytest.MonkeyPatch,
    uninterrupted: Callable[[Sequence[str]], Path],
    same_run: SameRun,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Saved with every step; a crash is no moment to save, since half of a step may be done."""

    def crash(self: ViTClassifier, *_: Any) -> None:
        if self.trainer.global_step == 8:
            raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(ViTClassifier, "on_before_backward", crash)
        assert fit("--save_every=1e-9") == 1
    assert torch.load(CUT / "checkpoints/last.ckpt")["global_step"] == 8
    assert "to go on: fit --resume cut" in capsys.readouterr().out
    assert len((CUT / "learning_rate.csv").read_text().splitlines()) == 1 + 8
    assert resume() == 0
    same_run(CUT, uninterrupted([]))


def test_a_run_saves_within_an_epoch_when_it_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    original = ResumableStop.on_save_checkpoint

    def spy(self: ResumableStop, trainer: Any, *rest: Any) -> None:
        saved.append(trainer.global_step)
        original(self, trainer, *rest)

    monkeypatch.setattr(ResumableStop, "on_save_checkpoint", spy)
    clock = time.monotonic()
    monkeypatch.setattr("vit_lightning.callbacks.checkpoints.time.monotonic", lambda: clock + 60.0 * len(ticks))
    ticks: list[int] = []
    tick = ViTClassifier.training_step

    def step(self: ViTClassifier, batch: Any, batch_idx: int) -> Any:
        ticks.append(batch_idx)  # a minute a step
        return tick(self, batch, batch_idx)

    monkeypatch.setattr(ViTClassifier, "training_step", step)
    assert fit("--save_every=2", "--trainer.max_epochs=1") == 0
    # After 2 minutes, and 2 minutes later, when what is kept before the last step is due as well; then best and last.
    assert saved == [2, 4, 4, 5, 5]


def test_batches_within_an_epoch_and_averaging_stay_as_they_were(
    send: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    send(("training", 1, 1))
    assert fit() == 143
    capsys.readouterr()
    for option, words in (
        ("--data.batch_size=8", "data.batch_size is 8 (was: 16)"),
        ("--model.ema=0.9", "model.ema None"),
    ):
        assert resume(option) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line
    assert resume("--trainer.max_epochs=2") == 0
    assert resume("--trainer.max_epochs=3", "--data.batch_size=8") == 0  # a whole epoch done, it may change


def test_changed_pictures_are_refused(
    frames: Path, send: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(frames, "data")
    FIT_DATA[:] = ["--data.root=data"]
    send(("training", 1, 1))
    assert fit() == 143
    first, second = sorted(Path("data").rglob("*.jpg"))[:2]
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    capsys.readouterr()
    assert resume() == 2
    assert "pictures of run cut" in (line := capsys.readouterr().err)
    assert "have changed" in line
    first.unlink()
    assert resume() == 2
    assert first.name in capsys.readouterr().err
    first.write_bytes(kept)
    assert resume() == 0


def test_the_averaged_weights_are_the_model_s(capsys: pytest.CaptureFixture[str]) -> None:
    """best.ckpt holds them under the network's own names; last.ckpt those of the last step beside them."""
    assert fit(*EMA) == 0
    best, last = (torch.load(CUT / f"checkpoints/{name}.ckpt") for name in ("best", "last"))
    assert best["state_dict"].keys() == last["current_model_state"].keys()
    weights = [last[name]["net.head.weight"] for name in ("state_dict", "current_model_state")]
    assert not torch.equal(*weights)
    capsys.readouterr()
    assert main(["validate", "--run=cut", "--trainer.precision=32-true"]) == 0
    told = json.loads((CUT / "status.json").read_text())["best"]
    assert f"acc {told['val/acc']:.4f} f1 {told['val/f1']:.4f} loss {told['val/loss']:.4f}" in capsys.readouterr().out


def test_patience_stops_early_and_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit("--patience=2", "--trainer.max_epochs=50", "--model.lr=0") == 0
    rows = (CUT / "history.csv").read_text().splitlines()
    assert len(rows) == 1 + 3  # the first is the best, for ever
    assert "stopped early: no better val/acc in 2 epochs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--patience=0"], "--patience is 0"),
        (["--save_every=0"], "--save_every is 0"),
        (["--save_every=nan"], "save_every is nan"),
        (["--patience=2", "--data.val_fraction=0", "--data.test_fraction=0.2"], "no validation part"),
        (["--model.ema=1"], "ema is 1"),
    ],
)
def test_options_out_of_range(options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(*options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert not CUT.exists()


def test_a_longer_schedule_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert fit("--trainer.max_epochs=1", "--model.warmup_fraction=0") == 0
    assert resume("--trainer.max_epochs=2") == 0
    said = " ".join(capsys.readouterr().out.split())
    # Half of a cosine is over: half of the rate.
    assert "the cosine now ends with epoch 2 (planned: 1); the learning rate follows it, with 0.0005 in step 5" in said
    rates = (CUT / "learning_rate.csv").read_text().splitlines()
    assert float(rates[6].split(",")[1]) == pytest.approx(5e-4)


@pytest.mark.slow
def test_six_kills_of_real_fits_lose_nothing(tmp_path: Path) -> None:
    """`python -m benchmarks.kills` does fifty, three times."""
    done = campaign(tmp_path, kills=6, seed=0)
    assert done.lost == []
    assert done.kills.total() == 6


WARNED = """
import os, signal
from lightning.pytorch import Callback

class Warned(Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        number = {6: signal.SIGUSR1, 8: signal.SIGKILL}.get(trainer.global_step)
        if number is not None and os.environ["SLURM_RESTART_COUNT"] == "0":
            os.kill(os.getpid(), number)
"""


@pytest.mark.slow
def test_a_slurm_job_that_is_queued_again_goes_on(
    uninterrupted: Callable[[Sequence[str]], Path], same_run: SameRun, tmp_path: Path
) -> None:
    """Warned in the seventh step and killed in the ninth, after Lightning's own file and before any save of ours."""
    (tmp_path / "warned.py").write_text(WARNED)
    scontrol = tmp_path / "scontrol"
    scontrol.write_text('#!/bin/sh\necho "$@" >> asked\n')
    scontrol.chmod(0o755)
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "vit", "SLURM_NTASKS": "1", "SLURM_NODELIST": "localhost"}
    job |= {"SLURM_NNODES": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
    job |= {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"}
    job |= {"OMP_NUM_THREADS": "1"}  # as many threads as the run it is compared with: sums depend on it
    statuses = []
    for count in ("0", "1"):
        words = ["--resume=cut"] if count == "1" else [*FIT[1:], *FIT_DATA, "--run=cut"]
        command = [sys.executable, "-m", "vit_lightning.cli", "fit", *words, "--trainer.callbacks=warned.Warned"]
        environment = os.environ | job | {"SLURM_RESTART_COUNT": count}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
        statuses.append(done.returncode)
        assert "Traceback" not in done.stderr, done.stderr
    assert statuses == [-signal.SIGKILL, 0]
    assert Path("asked").read_text() == "requeue 7\n"
    assert torch.load(CUT / "hpc_ckpt_1.ckpt")["global_step"] == 7
    same_run(CUT, uninterrupted([]))
