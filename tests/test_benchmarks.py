"""Every benchmark runs, with few pictures and rounds, and its closing line is one of numbers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings", "ratios"),
    [
        ("step", ["--batch=2", "--rounds=1"], {"to_best_peer", "to_plain", "of_limit"}),
        ("loader", ["--rounds=1"], {"to_plain", "build_to_decode", "second_start_s"}),
        ("epoch", ["--batch=2", "--batches=2", "--rounds=1"], {"to_plain_0", "to_plain_0.1", "to_bare_0"}),
        ("predict", ["--rounds=1"], {"predict_to_one", "predict_paths_to_one", "bf16_error"}),
        ("startup", ["--rounds=1"], {"help_s", "runs_s", "first_step_s"}),
        ("scale", ["--most=300"], {"first_growth", "again_growth", "bytes_a_file"}),
    ],
)
def test_it_runs(name: str, settings: list[str], ratios: set[str], frames: Path, tmp_path: Path) -> None:
    folder = [] if name == "scale" else [f"--frames={frames}", f"--png={tmp_path / 'table.png'}"]
    command = [sys.executable, "-m", f"benchmarks.{name}", *settings, *folder, "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    closing = json.loads(done.stdout.splitlines()[-1])
    assert ratios <= closing.keys()
    assert all(value >= 0 for value in closing.values())
    assert (tmp_path / "table.png").is_file() == (name in ("step", "loader", "epoch", "predict"))
