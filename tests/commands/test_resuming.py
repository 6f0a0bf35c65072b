"""fit --resume: the same folder, the same curves, the best score remembered, flags still winning."""

import csv
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from filelock import FileLock

from vit_lightning.cli import main
from vit_lightning.module import ViTClassifier

TINY = ["--model.image_size=[16,32]", "--model.patch_size=8", "--model.dim=16", "--model.depth=1", "--model.heads=2"]
TINY += ["--data.augment=light", "--data.num_workers=0", "--data.batch_size=16", "--data.split=blocks"]
TINY += ["--data.block_length=4", "--data.guard=0", "--data.val_fraction=0.25", "--data.test_fraction=0.25"]
TINY += ["--trainer.accelerator=cpu", "--trainer.log_every_n_steps=1"]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def status(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "status.json").read_text())
    return content


@pytest.fixture(scope="module")
def home(frames: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with one run of two epochs, which the tests copy."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        shutil.copytree(frames, "data")
        assert main(["fit", "--data.root=data", *TINY, "--trainer.max_epochs=2", "--run=first"]) == 0
    return folder


@pytest.fixture
def first(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(home, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Path("lightning_logs/first")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(["fit", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_run_goes_on_in_its_folder_and_its_curves(first: Path) -> None:
    before = {name: rows(first / name) for name in ("history.csv", "learning_rate.csv")}
    split, started = (first / "split.csv").read_text(), status(first)["started"]
    assert main(["fit", "--resume=first", "--trainer.max_epochs=4", "--model.lr=0.5"]) == 0
    assert [path.name for path in first.parent.iterdir()] == ["first"]
    history, rates = rows(first / "history.csv"), rows(first / "learning_rate.csv")
    assert [row["epoch"] for row in history] == ["1", "2", "3", "4"]
    assert history[:2] == before["history.csv"]
    assert rates[:6] == before["learning_rate.csv"]
    # 12 steps in all, of which one rises: a run that had lr 0.5 from the start would be here
    assert [int(row["step"]) for row in rates] == list(range(12))
    expected = [0.5 * (1 + math.cos(math.pi * (step - 1) / 11)) / 2 for step in range(6, 12)]
    assert [float(row["lr"]) for row in rates[6:]] == pytest.approx(expected)
    told = status(first)
    assert (told["state"], told["epochs"], told["started"], len(told["resumed"])) == ("finished", 4, started, 1)
    best = max(history, key=lambda row: float(row["val/acc"]))
    assert told["best"]["epoch"] == int(best["epoch"])
    assert told["split"]["kind"] == "blocks"
    assert (first / "split.csv").read_text() == split
    config = yaml.safe_load((first / "config.yaml").read_text())
    assert (config["model"]["lr"], config["trainer"]["max_epochs"], config["data"]["split"]) == (0.5, 4, "blocks")
    assert "resume" not in config
    assert (first / "run.log").read_text().count("resuming run first") == 1
    assert sorted(path.name for path in (first / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    assert not (first / ".lock").exists()


def scalars(folder: Path, tag: str) -> list[Any]:
    """What TensorBoard shows of one curve."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return list(events.Scalars(tag))


def steps(folder: Path, tag: str) -> list[int]:
    return [event.step for event in scalars(folder, tag)]


def test_tensorboard_shows_one_curve_and_the_last_score(first: Path) -> None:
    assert main(["fit", "--resume=first", "--trainer.max_epochs=3"]) == 0
    assert steps(first, "train/loss_step") == list(range(9))
    assert steps(first, "val/acc") == [2, 5, 8]
    (score,) = [event.value for event in scalars(first, "hp/val_acc")]
    assert score == pytest.approx(status(first)["best"]["val/acc"])


def test_what_was_written_after_the_last_checkpoint_is_forgotten(first: Path) -> None:
    """As after a kill in the middle of the third epoch."""
    shutil.copy(first / "checkpoints/last.ckpt", "kept.ckpt")
    assert main(["fit", "--resume=first", "--trainer.max_epochs=3"]) == 0
    shutil.copy("kept.ckpt", first / "checkpoints/last.ckpt")
    assert main(["fit", "--resume=first"]) == 0
    assert [row["epoch"] for row in rows(first / "history.csv")] == ["1", "2", "3"]
    assert [int(row["step"]) for row in rows(first / "learning_rate.csv")] == list(range(9))
    assert steps(first, "train/loss_step") == list(range(9))


@pytest.mark.parametrize("move", [False, True])
def test_a_worse_epoch_does_not_take_the_place_of_the_best(first: Path, move: bool) -> None:
    """Lightning forgets the best score when the folder was moved."""
    last = first / "checkpoints/last.ckpt"
    checkpoint = torch.load(last)
    (name,) = [name for name in checkpoint["callbacks"] if "val/acc" in name]
    state = checkpoint["callbacks"][name]
    state["best_model_score"] = state["kth_value"] = torch.tensor(0.99)
    state["best_k_models"] = dict.fromkeys(state["best_k_models"], torch.tensor(0.99))
    torch.save(checkpoint, last)
    best = (first / "checkpoints/best.ckpt").read_bytes()
    run = first
    if move:
        run = Path("elsewhere/renamed")
        run.parent.mkdir()
        shutil.move(first, run)
    assert main(["fit", f"--resume={run}", "--trainer.max_epochs=3"]) == 0
    assert (run / "checkpoints/best.ckpt").read_bytes() == best
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    assert torch.load(run / "checkpoints/last.ckpt")["epoch"] == 2
    assert [path.name for path in run.parent.iterdir()] == [run.name]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_run_draws_other_numbers_than_its_first_epoch(
    first: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Lightning would shuffle and augment the third epoch as it did the first; with workers even before it starts."""
    seen: list[list[float]] = []
    original = ViTClassifier.training_step

    def spy(self: ViTClassifier, batch: Any, batch_idx: int) -> torch.Tensor:
        seen[-1].extend(batch[0].double().sum(dim=(1, 2, 3)).tolist())
        return original(self, batch, batch_idx)

    monkeypatch.setattr(ViTClassifier, "training_step", spy)
    plain = ["--data.augment=none", f"--data.num_workers={workers}", "--trainer.limit_val_batches=0"]
    for words in (["--config=lightning_logs/first/config.yaml", "--trainer.max_epochs=1"], ["--resume=first"]):
        seen.append([])
        more = [] if words[0].startswith("--config") else ["--trainer.max_epochs=3"]
        assert main(["fit", *words, *more, *plain]) == 0
    assert sorted(seen[0]) == sorted(seen[1])
    assert seen[0] != seen[1]


def test_images_that_came_later_stay_out(first: Path) -> None:
    before = (first / "split.csv").read_text()
    picture = next(Path("data").rglob("*.jpg"))
    for number in range(200, 230):
        shutil.copy(picture, picture.with_name(f"frame{number}.jpg"))
    assert main(["fit", "--resume=first", "--trainer.max_epochs=3", "--data.root=data"]) == 0
    assert (first / "split.csv").read_text() == before


def test_a_moved_data_folder_is_named_by_a_flag(first: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.move("data", "moved")
    root = yaml.safe_load((first / "config.yaml").read_text())["data"]["root"]
    config = first / "config.yaml"
    config.write_text(config.read_text().replace(root, str(Path("data").resolve())))
    assert "does not exist" in refused(capsys, "--resume=first", "--trainer.max_epochs=3")
    assert main(["fit", "--resume=first", "--trainer.max_epochs=3", "--data.root=moved"]) == 0


def test_a_run_without_a_checkpoint_starts_again_in_its_folder(first: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = rows(first / "history.csv")
    shutil.rmtree(first / "checkpoints")
    assert main(["fit", "--resume=first"]) == 0
    assert rows(first / "history.csv") == before  # the same seed and nothing else
    assert "no checkpoint yet" in capsys.readouterr().out
    assert steps(first, "train/loss_step") == list(range(6))


def test_after_a_kill_between_the_two_checkpoints_the_later_one_counts(first: Path) -> None:
    """The third epoch was the best so far, and the process died before last.ckpt was written."""
    folder = first / "checkpoints"
    shutil.copy(folder / "last.ckpt", "kept.ckpt")
    assert main(["fit", "--resume=first", "--trainer.max_epochs=3"]) == 0
    shutil.copy(folder / "last.ckpt", folder / "best.ckpt")
    shutil.copy("kept.ckpt", folder / "last.ckpt")
    assert main(["fit", "--resume=first", "--trainer.max_epochs=4"]) == 0
    assert (first / "run.log").read_text().count("epoch 4/4") == 1
    assert "epoch 3/4" not in (first / "run.log").read_text()


def test_a_damaged_last_checkpoint_leaves_the_best_to_go_on_from(
    first: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last, best = first / "checkpoints/last.ckpt", first / "checkpoints/best.ckpt"
    done = torch.load(best)["epoch"] + 1
    last.write_bytes(last.read_bytes()[:1000])
    assert main(["fit", "--resume=first", "--trainer.max_epochs=3"]) == 0
    assert "last.ckpt is no checkpoint" in capsys.readouterr().out
    assert (first / "run.log").read_text().count("epoch 3/3") == 1
    assert (first / "run.log").read_text().count(f"epoch {done}/3") == 0


@pytest.mark.parametrize("torn", ["1", "2,0.", "\x00\x00\x00"])
def test_a_power_cut_tears_a_table_and_not_the_run(first: Path, torn: str) -> None:
    for name in ("history.csv", "learning_rate.csv"):
        with (first / name).open("a") as file:
            file.write(torn)
    assert main(["fit", "--resume=first", "--trainer.max_epochs=3"]) == 0
    assert [row["epoch"] for row in rows(first / "history.csv")] == ["1", "2", "3"]
    assert [int(row["step"]) for row in rows(first / "learning_rate.csv")] == list(range(9))


def test_a_run_that_counts_steps_says_which_limit_it_met(first: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = "--config=lightning_logs/first/config.yaml"
    limits = ["--trainer.max_epochs=-1", "--trainer.max_steps=6"]
    assert main(["fit", config, "--run=steps", *limits]) == 0
    assert "done its 6 steps" in (line := refused(capsys, "--resume=steps"))
    assert "--trainer.max_steps N" in line
    run = first.parent / "steps"
    before = rows(run / "history.csv")
    assert main(["fit", "--resume=steps", "--trainer.max_steps=9"]) == 0
    assert rows(run / "history.csv")[:2] == before
    assert (run / "run.log").read_text().count("epoch 3  train loss") == 1


def test_a_split_s_file_may_be_named_again_by_another_path(first: Path) -> None:
    shutil.copy(first / "split.csv", "mine.csv")
    command = ["fit", "--config=lightning_logs/first/config.yaml", "--run=csv", "--data.split=mine.csv"]
    assert main([*command, "--trainer.max_epochs=1"]) == 0
    assert main(["fit", "--resume=csv", "--data.split=mine.csv", "--trainer.max_epochs=2"]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--resume=first"], ["done its 2 epochs", "--trainer.max_epochs"]),
        (["--resume=frist"], ["no run 'frist'", "did you mean first"]),
        (["--resume=first", "--run=second"], ["--run"]),
        (["--resume=first", "--ckpt_path=x.ckpt"], ["--ckpt_path"]),
        (["--resume=first", "--trainer.max_epochs=4", "--data.seed=1"], ["own split", "data.seed 1 (was: 0)"]),
        (["--resume=first", "--trainer.max_epochs=4", "--model.depth=2"], ["another model", "depth 2 (saved: 1)"]),
        (["--resume=first", "--trainer.max_epochs=4", "--model.decay_all=true"], ["decay_all", "cannot be changed"]),
        (["--resume=first", "--trainer.max_epochs=4", "--model.init_from=first"], ["init_from", "cannot be changed"]),
        (["--resume=first", "--trainer.max_epochs=4", "--model.betas=[2,3]"], ["betas is 2.0", "in [0, 1)"]),
        (["--resume=lightning_logs/first/checkpoints/best.ckpt"], ["a run's name or folder", "--ckpt_path"]),
        (["--resume=empty", "--trainer.max_epochs=4"], ["empty", "no config.yaml"]),
        (["--resume=first", "--trainer.max_epochs=4", "--model.lt=1"], ["--model.lt", "--model.lr"]),
    ],
)
def test_what_cannot_go_on_says_why_and_touches_nothing(
    first: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    Path("lightning_logs/empty").mkdir()
    before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    line = refused(capsys, *arguments)
    for word in words:
        assert word in line
    assert {path: path.read_bytes() for path in first.rglob("*") if path.is_file()} == before


def test_what_fails_before_training_begins_leaves_the_run_as_it_was(
    first: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is: the run is neither failed now, nor has it taken the flags over."""
    before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file() and path.name != "run.log"}

    def fail(self: ViTClassifier) -> None:
        raise ValueError("the optimizer cannot be built")

    monkeypatch.setattr(ViTClassifier, "configure_optimizers", fail)
    assert main(["fit", "--resume=first", "--trainer.max_epochs=3", "--model.lr=0.5"]) == 2
    assert {path: path.read_bytes() for path in before} == before


def test_a_run_is_trained_by_one_process_at_a_time(first: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = "import filelock, sys; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print(1, flush=True); "
    program += "sys.stdin.read()"
    command = [sys.executable, "-c", program, str(first / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert "another process" in refused(capsys, "--resume=first", "--trainer.max_epochs=3")
        other.kill()
    with FileLock(first / ".lock"):
        pass  # a dead process holds nothing
    assert main(["fit", "--resume=first", "--trainer.max_epochs=3"]) == 0


def test_a_run_from_before_folds_and_groups_goes_on_and_is_tested(first: Path) -> None:
    """Its checkpoints know neither, nor does its split's file."""
    for path in (first / "checkpoints").glob("*.ckpt"):
        checkpoint = torch.load(path)
        for option in ("fold", "group_by"):
            del checkpoint["datamodule_hyper_parameters"][option]
        torch.save(checkpoint, path)
    config = yaml.safe_load((first / "config.yaml").read_text())
    for option in ("fold", "group_by"):
        del config["data"][option]
    (first / "config.yaml").write_text(yaml.safe_dump(config))
    lines = (first / "split.csv").read_text().splitlines()
    (first / "split.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines) + "\n")
    assert main(["fit", "--resume=first", "--trainer.max_epochs=3"]) == 0
    assert main(["test", "--run=first"]) == 0
    metrics = json.loads((first / "report" / "metrics.json").read_text())
    assert metrics["groups"] == {"kind": "blocks of 4 frames", "count": 6}


def test_a_folder_in_which_nothing_was_written_is_taken_again(first: Path) -> None:
    """As a kill leaves it while the images are decoded; `--resume` finds no config in it."""
    left = first.parent / "second"
    left.mkdir()
    (left / ".lock").touch()
    assert main(["fit", "--config=lightning_logs/first/config.yaml", "--trainer.max_epochs=1", "--run=second"]) == 0
    assert main(["fit", "--config=lightning_logs/first/config.yaml", "--trainer.max_epochs=1", "--run=second"]) == 2


def test_a_run_that_was_killed_behind_its_last_checkpoint_is_finished(first: Path) -> None:
    before = {name: (first / name).read_text() for name in ("history.csv", "learning_rate.csv")}
    told = status(first)
    del told["ended"]
    (first / "status.json").write_text(json.dumps(told | {"state": "running"}))
    assert main(["fit", "--resume=first"]) == 0
    assert {name: (first / name).read_text() for name in before} == before
    after = status(first)
    assert (after["state"], after["epochs"], after["best"]) == ("finished", 2, told["best"])
    assert main(["fit", "--resume=first"]) == 2  # nothing is left now


def test_a_new_run_from_a_checkpoint_without_a_step_left_has_failed(first: Path) -> None:
    start = "--ckpt_path=lightning_logs/first/checkpoints/last.ckpt"
    assert main(["fit", "--config=lightning_logs/first/config.yaml", start, "--run=none", "--allow_seen=true"]) == 2
    assert status(first.parent / "none")["state"] == "failed"
