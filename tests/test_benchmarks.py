"""Every benchmark runs, with few pictures and rounds, and its closing line is one of numbers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

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


def test_accuracy_keeps_what_a_run_leaves_and_does_what_is_missing(frames: Path, tmp_path: Path) -> None:
    """One epoch of a peer on few frames; the second time nothing runs."""
    options = [f"--root={frames}", f"--keep={tmp_path / 'kept'}", "--methods=ours,timm", "--folds=1", "--epochs=1"]
    options += [f"--cache_dir={tmp_path / 'cache'}", "--block_length=4"]
    command = [sys.executable, "-m", "benchmarks.accuracy", *options]
    for again in (False, True):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1]) == {"ours": 16, "timm": 16}
        assert ("timm-f1-s0: acc" in done.stdout) == (not again)
    for name in ("ours-f1-s0", "timm-f1-s0"):
        kept = {path.name for path in (tmp_path / "kept" / name).iterdir()}
        assert kept == {"config.yaml", "history.csv", "metrics.json", "predictions.csv.gz"}
    assert str(tmp_path) not in (tmp_path / "kept/ours-f1-s0/config.yaml").read_text()


@pytest.mark.parametrize(("name", "config"), [("ours", "tom_and_jerry"), ("quick", "tom_and_jerry_quick")])
def test_the_study_trains_the_configs_as_they_are(name: str, config: str) -> None:
    from benchmarks.peers import TASKS, method

    settings = yaml.safe_load((ROOT / f"configs/{config}.yaml").read_text(encoding="utf-8"))
    chosen, data = method(name, "tom_and_jerry"), settings["data"]
    assert chosen.model == settings["model"]
    assert (chosen.image_size, chosen.augment) == (settings["model"]["image_size"], data["augment"])
    assert chosen.batch_size == data["batch_size"]
    assert TASKS["tom_and_jerry"].epochs[name] == settings["trainer"]["max_epochs"]


def test_cifar10_small_is_made_of_the_listed_pictures(tmp_path: Path) -> None:
    names = [line.split() for line in (ROOT / "benchmarks/cifar10_small.txt").read_text().splitlines()]
    assert [len(numbers) for _, *numbers in names] == [400] * 10 + [500] * 10
    for part, *numbers in names:
        (tmp_path / "clone" / part).mkdir(parents=True)
        for number in numbers:
            (tmp_path / "clone" / part / f"{number}.jpg").touch()
    (tmp_path / "clone/train/cat/unlisted.jpg").touch()
    words = [sys.executable, "-m", "benchmarks.accuracy", "--make", "cifar10_small", str(tmp_path / "made")]
    done = subprocess.run(
        [*words, f"--source={tmp_path / 'clone'}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "made").rglob("*.jpg"))) == 9000
    done = subprocess.run([*words, f"--source={tmp_path}"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "is missing; give a clone" in done.stderr.splitlines()[-1]
