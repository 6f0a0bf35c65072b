"""Two real processes (gloo): every held-out image counts once, every process draws its own, one record is kept."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vit_lightning.cli import main
from vit_lightning.commands.model_command import run_command
from vit_lightning.runs import read_numbers

ROOT = Path(__file__).parent.parent
TWO = ["--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp"]
TINY = ["--model.image_size=16", "--model.patch_size=8", "--model.dim=16", "--model.depth=1", "--model.heads=2"]
TINY += ["--data.num_workers=0", "--data.augment=light", "--trainer.log_every_n_steps=1"]


def cli(*arguments: str, folder: Path) -> str:
    """Runs the command line in processes of its own, since Lightning starts the second by running it again."""
    command = [sys.executable, str(ROOT / "cli.py"), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def odd_split(frames: Path, path: Path, held_out: int = 23) -> None:
    """23 validation images, which two processes cannot share evenly, or so many."""
    pictures = sorted(frames.rglob("*.jpg"), key=lambda picture: int(re.sub(r"\D", "", picture.stem)))
    lines = ["path,label,split"]
    for number, picture in enumerate(pictures):
        part = "val" if number < held_out else "train"
        lines.append(f"{picture.relative_to(frames).as_posix()},{picture.parent.name},{part}")
    path.write_text("\n".join(lines))


@pytest.mark.slow
def test_two_processes_train_into_one_folder_and_score_as_one_does(frames: Path, tmp_path: Path) -> None:
    odd_split(frames, tmp_path / "odd.csv")
    data = [f"--data.root={frames}", "--data.split=odd.csv", "--data.batch_size=6", "--model.class_weights=balanced"]
    exact = "--trainer.precision=32-true"  # in bf16, where it is chosen, batches of 6 and of 2 may round differently
    out = cli("fit", "--run=pair", *TINY, *TWO, *data, exact, "--trainer.max_epochs=2", folder=tmp_path)
    assert [path.name for path in (tmp_path / "lightning_logs").iterdir()] == ["pair"]
    run = tmp_path / "lightning_logs/pair"
    assert out.count("epoch 1/2") == 1
    assert "training on 2 x cpu" in out
    assert len((run / "history.csv").read_text().splitlines()) == 3
    assert len(list(run.glob("events*"))) == 1
    events = EventAccumulator(str(run))
    events.Reload()
    rows = [line.split(",") for line in (tmp_path / "odd.csv").read_text().splitlines()]
    labels = Counter(label for _, label, part in rows if part == "val")
    found = {label: events.Scalars(f"val/recall/{label}")[-1].value * count for label, count in labels.items()}
    assert sum(found.values()) / 23 == pytest.approx(events.Scalars("val/acc")[-1].value, abs=1e-6)  # of both
    assert all(hits == pytest.approx(round(hits), abs=1e-5) for hits in found.values())

    # 12 and 11 batches of one image; padded to 24, one image would count twice
    shared = cli("validate", "--run=pair", *TWO, exact, "--data.batch_size=2", folder=tmp_path)
    alone = cli("validate", "--run=pair", "--trainer.accelerator=cpu", exact, "--data.batch_size=2", folder=tmp_path)
    scores = [line for line in alone.splitlines() if line.startswith("val images 23: acc ")]
    assert len(scores) == 1
    assert scores[0] in shared.splitlines()
    best = json.loads((run / "status.json").read_text())["best"]
    told = f"acc {best['val/acc']:.4f} f1 {best['val/f1']:.4f} loss {best['val/loss']:.4f}"
    assert scores[0].endswith(told), (run / "history.csv").read_text()

    written = []
    for devices in (TWO, ["--trainer.accelerator=cpu"]):
        assert (
            cli("test", "--run=pair", *devices, exact, "--data.batch_size=2", folder=tmp_path).count("the report is")
            == 1
        )
        written.append((run / "report" / "predictions.csv").read_text().splitlines())
    assert len(written[0]) == 24
    for pair in zip(*written, strict=True):
        shared_row, alone_row = (line.split(",") for line in pair)
        assert shared_row[:4] == alone_row[:4]

    cli("fit", "--resume=pair", "--trainer.max_epochs=3", folder=tmp_path)
    assert len((run / "history.csv").read_text().splitlines()) == 4


def test_a_command_ends_the_group_of_its_processes(tmp_path: Path) -> None:
    class Shared:
        """A command of one process that exchanges with itself."""

        def __init__(self, arguments: list[str]) -> None:
            pass

        def execute(self) -> int:
            torch.distributed.init_process_group("gloo", f"file://{tmp_path / 'met'}", rank=0, world_size=1)
            return 3

    assert run_command(Shared, []) == 3  # type: ignore[arg-type]  # all that it is asked for
    assert not torch.distributed.is_initialized()


@pytest.mark.slow
def test_processes_draw_different_dropout(tmp_path: Path) -> None:
    (tmp_path / "draw.py").write_text(
        """
import sys
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from torch.utils.data import DataLoader, TensorDataset
from vit_lightning.callbacks.seeding import BatchSeeding
from vit_lightning.module import ViTClassifier

class Drop(Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        dropped = torch.nn.functional.dropout(torch.ones(64), 0.5)
        open(f"{trainer.global_rank}.txt", "w").write(str(dropped.tolist()))

if __name__ == "__main__":
    seed_everything(0)
    model = ViTClassifier(num_classes=2, image_size=8, patch_size=4, dim=8, depth=1, heads=1)
    data = DataLoader(TensorDataset(torch.zeros(4, 3, 8, 8), torch.zeros(4, dtype=torch.long)), batch_size=2)
    callbacks = [Drop()] if "without" in sys.argv else [BatchSeeding(), Drop()]
    trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, logger=False, callbacks=callbacks,
                      enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(model, data)
    torch.distributed.destroy_process_group()
"""
    )
    for words, same in ((["without"], True), ([], False)):  # Lightning alone gives both the same
        command = [sys.executable, "draw.py", *words]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200, check=False
        )
        assert done.returncode == 0, done.stderr
        assert ((tmp_path / "0.txt").read_text() == (tmp_path / "1.txt").read_text()) is same


@pytest.mark.slow
def test_a_resumed_run_of_two_processes_has_an_order_of_its_own(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning starts loader processes before it tells the sampler which epoch it is."""
    (tmp_path / "spy.py").write_text(
        """
from lightning.pytorch import Callback

class Spy(Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        with open(f"{trainer.global_rank}-{trainer.current_epoch}.txt", "a") as file:
            print(batch[0].double().sum(dim=(1, 2, 3)).tolist(), file=file)
"""
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    plain = [word for word in TINY if "workers" not in word and "augment" not in word]
    plain += ["--data.augment=none", "--data.num_workers=1", f"--data.root={frames}", "--trainer.callbacks=spy.Spy"]
    cli("fit", "--run=two", *plain, *TWO, "--trainer.max_epochs=1", folder=tmp_path)
    cli("fit", "--resume=two", "--trainer.max_epochs=2", folder=tmp_path)
    for rank in (0, 1):
        assert (tmp_path / f"{rank}-0.txt").read_text() != (tmp_path / f"{rank}-1.txt").read_text()


@pytest.mark.slow
def test_sigterm_to_the_first_of_two_processes_ends_both(frames: Path, tmp_path: Path) -> None:
    """Lightning's own way speaks to the second in the middle of whatever that does, and may wait for ever."""
    command = [sys.executable, str(ROOT / "cli.py"), "fit", f"--data.root={frames}", "--run=stopped", *TINY, *TWO]
    process = subprocess.Popen(
        [*command, "--trainer.max_epochs=100000"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    run = tmp_path / "lightning_logs/stopped"
    deadline = time.monotonic() + 120
    while not ((run / "history.csv").is_file() and (run / "history.csv").read_text().count("\n") > 2):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)  # ends when both have let go of their output
    assert process.returncode == 143, out
    assert "to go on: fit --resume stopped" in out
    assert "Traceback" not in out
    assert json.loads((run / "status.json").read_text())["state"] == "interrupted"
    assert not (run / ".lock").exists()


STOP = """
import os, signal
from lightning.pytorch import Callback

class Stop(Callback):
    # The second process is sent a signal in the middle of the seventh step, the first one hears of it from it alone.
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_rank == 1 and trainer.global_step == int(os.environ["STOP_AT"]):
            os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.slow
def test_two_processes_stop_within_an_epoch_and_go_on_to_the_bit(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_run: Callable[[Path, Path], None]
) -> None:
    (tmp_path / "stop.py").write_text(STOP)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    options = [*TINY, *TWO, f"--data.root={frames}", "--data.val_fraction=0.25", "--data.batch_size=16"]
    options += ["--model.dropout=0.1", "--trainer.max_epochs=3", "--trainer.callbacks=stop.Stop", "--model.ema=0.9"]
    for run, steps in (("whole", [-1]), ("cut", [6, 8, -1])):
        for number, step in enumerate(steps):
            monkeypatch.setenv("STOP_AT", str(step))
            words = [f"--run={run}", *options] if number == 0 else [f"--resume={run}"]
            command = [sys.executable, str(ROOT / "cli.py"), "fit", *words]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
            assert done.returncode == (0 if step == -1 else 143), done.stdout + done.stderr
            last = torch.load(tmp_path / f"lightning_logs/{run}/checkpoints/last.ckpt")
            assert last["global_step"] == (15 if step == -1 else step + 1)
            assert "Traceback" not in done.stderr
    same_run(tmp_path / "lightning_logs/cut", tmp_path / "lightning_logs/whole")


@pytest.mark.slow
def test_one_process_takes_over_from_two_within_an_epoch(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same images in the same steps; and with nothing drawn at random, the same losses."""
    (tmp_path / "stop.py").write_text(STOP)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    odd_split(frames, tmp_path / "even.csv", held_out=24)  # of an odd number of images one would train twice
    options = [*TINY, f"--data.root={frames}", "--data.split=even.csv", "--data.batch_size=16"]
    options += ["--trainer.max_epochs=3", "--trainer.accelerator=cpu", "--trainer.precision=32-true"]
    monkeypatch.setenv("STOP_AT", "-1")
    cli("fit", "--run=one", *options, folder=tmp_path)
    cli("fit", "--run=two", *options, *TWO, folder=tmp_path)
    monkeypatch.setenv("STOP_AT", "6")
    command = [sys.executable, str(ROOT / "cli.py"), "fit", "--run=both", *options, *TWO]
    command += ["--trainer.callbacks=stop.Stop"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=300, check=False).returncode == 143
    one = ["--trainer.devices=1", "--trainer.strategy=auto", "--trainer.callbacks=null"]
    cli("fit", "--resume=both", *one, folder=tmp_path)
    whole = read_numbers(tmp_path / "lightning_logs/one/history.csv")
    assert len(whole) == 3
    for run in ("two", "both"):
        rows = read_numbers(tmp_path / f"lightning_logs/{run}/history.csv")
        for ours, theirs in zip(rows, whole, strict=True):
            for name in ("train/loss", "val/loss"):
                assert ours[name] == pytest.approx(theirs[name], abs=1e-4), run


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "slurm"])
def test_two_nodes_of_one_process(frames: Path, tmp_path: Path, launcher: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    fit = [str(ROOT / "cli.py"), "fit", f"--data.root={frames}", *TINY, "--run=wide", "--data.batch_size=16"]
    fit += ["--trainer.accelerator=cpu", "--trainer.num_nodes=2", "--trainer.strategy=ddp", "--trainer.max_epochs=2"]
    nodes = []
    for rank in ("0", "1"):
        command, environment = [sys.executable, *fit], dict(os.environ)
        if launcher == "torchrun":
            run = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1", f"--node_rank={rank}"]
            command[1:1] = [*run, "--master_addr=127.0.0.1", f"--master_port={port}", "--"]
        else:  # what srun tells its tasks
            environment |= {"SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "vit", "SLURM_NODELIST": "localhost"}
            environment |= {"SLURM_NNODES": "2", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1"}
            environment |= {"SLURM_PROCID": rank, "SLURM_NODEID": rank, "SLURM_LOCALID": "0", "MASTER_PORT": port}
        nodes.append(
            subprocess.Popen(
                command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        )
    outs = [node.communicate(timeout=300)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], "\n".join(outs)
    assert [path.name for path in (tmp_path / "lightning_logs").iterdir()] == ["wide"]
    assert "training on 2 x cpu" in outs[0]
    assert "epoch" not in outs[1]
    assert len((tmp_path / "lightning_logs/wide/history.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data.batch_size=15"], ["data.batch_size 15", "2 devices"]),
        (["--data.split=random", "--data.val_fraction=0.01", "--data.subset=10", "--trainer.devices=8"], ["val has 4"]),
    ],
)
def test_what_cannot_be_shared_out_is_refused_before_training(
    frames: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", f"--data.root={frames}", *TINY, *TWO, *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    for word in words:
        assert word in line
    assert list(tmp_path.glob("lightning_logs/*")) == []


def test_predict_runs_on_one_device(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    one = ["--trainer.accelerator=cpu", "--trainer.max_epochs=1"]
    assert main(["fit", f"--data.root={frames}", *TINY, *one]) == 0
    capsys.readouterr()
    assert main(["predict", "--images", str(frames), *TWO]) == 2
    assert "one device" in capsys.readouterr().err
