"""The front door: what is answered without torch, and how mistakes and Ctrl-C look."""

import errno
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vit_lightning import cli

ROOT = Path(__file__).parent.parent


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "cli.py"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"], ["runs"], ["runs", "--help"], ["fitt"]])
def test_help_listings_and_unknown_commands_do_not_import_torch(arguments: list[str], tmp_path: Path) -> None:
    program = (
        "import sys; from vit_lightning.cli import main\n"
        f"try: main({arguments})\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'lightning', 'torchmetrics', 'torchvision', 'matplotlib', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_help_names_every_command_within_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    for command in ("fit", "validate", "test", "predict", "runs"):
        assert f"\n  {command} " in out
    assert max(map(len, out.splitlines())) <= 80


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["predikt"]) == 2
    assert capsys.readouterr().err == "error: there is no command 'predikt'; did you mean predict?\n"


def test_debug_brings_the_trace() -> None:
    with pytest.raises(ValueError, match="no command"):
        cli.main(["--debug", "nonsense"][::-1])


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/a/.last.ckpt.1", None, "/a/last.ckpt"),
            "No space left on device for /a; make room, then go on (a run with fit --resume RUN)",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "/a/b"), "Permission denied: /a/b"),
        (OSError("a picture cannot be read"), "a picture cannot be read"),
    ],
)
def test_the_system_s_errors_are_told_without_its_numbers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: OSError, line: str
) -> None:
    def fail(_: object) -> int:
        raise error

    monkeypatch.setattr("vit_lightning.commands.runs.main", fail)
    monkeypatch.setattr(logging.getLogger("vit_lightning"), "handlers", [])
    assert cli.main(["runs"]) == 2
    assert capsys.readouterr().err == f"error: {line}\n"


def test_the_module_s_commands_have_help_of_their_own(tmp_path: Path) -> None:
    done = run("predict", "--help", folder=tmp_path)
    assert done.returncode == 0
    for option in ("--run", "--images", "--output", "--data.batch_size", "--trainer.accelerator"):
        assert option in done.stdout


@pytest.mark.slow
def test_ctrl_c_leaves_a_usable_run_and_no_trace(frames: Path, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job's is ignored, also by children
    command = [sys.executable, str(ROOT / "cli.py"), "fit", f"--data.root={frames}", "--run=stopped"]
    command += ["--model.image_size=16", "--model.patch_size=8", "--model.dim=16", "--model.heads=2"]
    command += ["--trainer.max_epochs=100000", "--data.num_workers=2"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    history = tmp_path / "lightning_logs/stopped/history.csv"
    deadline = time.monotonic() + 120
    while not (history.is_file() and history.read_text().count("\n") > 2):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130, out
    assert "Traceback" not in out
    assert "interrupted after" in out
    assert '"state": "interrupted"' in (tmp_path / "lightning_logs/stopped/status.json").read_text()
    assert (tmp_path / "lightning_logs/stopped/training_curves.png").is_file()
    picture = next(frames.rglob("*.jpg"))
    done = run("predict", "--run", "stopped", "--images", str(picture), folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert picture.name in done.stdout
    epochs = history.read_text().count("\n") - 1
    done = run("fit", "--resume", "stopped", "--trainer.max_epochs", str(epochs + 2), folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert history.read_text().splitlines()[-1].startswith(f"{epochs + 2},")
