"""What a person sees: the command line on a terminal of 80 columns."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vit_lightning.callbacks.terminal import print_summary
from vit_lightning.module import ViTClassifier
from vit_lightning.progress import set_up_logging

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_a_terminal_gets_a_bar_and_keeps_a_line_an_epoch(frames: Path, tmp_path: Path) -> None:
    import pty  # no module of this name on Windows

    command = [sys.executable, str(ROOT / "cli.py"), "fit", f"--data.root={frames}", "--trainer.max_epochs=2"]
    command += ["--model.image_size=16", "--model.patch_size=8", "--model.dim=16", "--model.heads=2"]
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": "80", "LINES": "40", "TERM": "xterm"}
    process = subprocess.Popen([*command, "--data.num_workers=0"], cwd=tmp_path, env=environment, stdout=theirs)
    os.close(theirs)
    output = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not chunk:
            break
        output += chunk
    assert process.wait(timeout=60) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.decode())
    lines = re.split(r"[\r\n]+", text)
    bars = [line for line in lines if "━" in line]
    assert any(line.startswith("epoch 2/2 ━") for line in bars)  # counted as the epochs' own lines are
    assert any("loss: " in line for line in bars)
    for epoch in (1, 2):
        assert sum(line.startswith(f"epoch {epoch}/2  train loss") for line in lines) == 1
    assert any(line.startswith("best val/acc") for line in lines)
    assert max(map(len, bars)) <= 80


def test_the_summary_gives_each_layer_s_shape_and_every_parameter(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging()
    capsys.readouterr()
    print_summary(ViTClassifier(num_classes=4, image_size=224, patch_size=16, dim=256, depth=6, heads=8))
    out = capsys.readouterr().out
    assert out.count("[1, 197, 256]") == 1 + 5  # embedding, and all blocks but the last
    assert out.count("[1, 1, 256]") == 2  # which gives the class token alone, as does the norm
    assert "[1, 196, 256]" in out
    assert "[1, 4]" in out
    lines = [line.rstrip() for line in out.splitlines()]
    counts = [int(line.split()[-1].replace(",", "")) for line in lines if line[-1:].isdigit()]
    *layers, total = counts
    assert sum(layers) == total == 4_987_652
    assert max(map(len, out.splitlines())) <= 80


def test_the_summary_of_a_gap_model_has_no_class_token(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging()
    capsys.readouterr()
    model = ViTClassifier(num_classes=2, image_size=16, patch_size=8, dim=8, depth=1, heads=2, pool="gap")
    print_summary(model)
    out = capsys.readouterr().out
    assert "class token" not in out
    assert f"{sum(parameter.numel() for parameter in model.parameters()):,}" in out
    assert torch.is_grad_enabled()
