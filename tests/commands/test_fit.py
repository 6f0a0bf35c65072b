"""`fit` with callbacks and loggers of a user's own, weights to start from, and what it refuses."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from lightning_utilities.core.imports import RequirementCache

from vit_lightning.cli import main
from vit_lightning.inference import load_classifier, predict_paths

TINY = ["--model.image_size=[16,32]", "--model.patch_size=8", "--model.dim=16", "--model.depth=1", "--model.heads=2"]
TINY += ["--data.augment=none", "--data.num_workers=0", "--data.batch_size=16", "--data.split=blocks"]
TINY += ["--data.block_length=4", "--data.guard=0", "--data.val_fraction=0.25", "--trainer.accelerator=cpu"]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(["fit", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_learning_rate_that_a_callback_finds_is_said_and_saved(
    work: Path, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finder = ["--trainer.callbacks+=LearningRateFinder", "--trainer.callbacks.num_training_steps=30"]
    finder += ["--trainer.callbacks.early_stop_threshold=null"]
    assert main(["fit", f"--data.root={frames}", *TINY, "--trainer.max_epochs=4", "--run=one", *finder]) == 0
    config = yaml.safe_load(Path("lightning_logs/one/config.yaml").read_text())
    checkpoint = torch.load("lightning_logs/one/checkpoints/last.ckpt")
    found = checkpoint["hyper_parameters"]["lr"]
    assert found != 0.001
    assert config["model"]["lr"] == found
    assert checkpoint["optimizer_states"][0]["param_groups"][0]["initial_lr"] == found
    assert f"model.lr is {found}, by a callback (asked for: 0.001)" in capsys.readouterr().out


def test_a_logger_whose_package_is_missing_is_one_line(
    work: Path, frames: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = RequirementCache("no-such-package>=1.0")
    monkeypatch.setattr("lightning.pytorch.loggers.wandb._WANDB_AVAILABLE", missing)
    line = refused(capsys, f"--data.root={frames}", *TINY, "--trainer.logger=WandbLogger")
    assert line == (
        "error: WandbLogger needs no-such-package>=1.0, which is not installed: pip install 'no-such-package>=1.0'"
    )


@pytest.mark.parametrize("limit", ["--trainer.max_epochs=0", "--trainer.max_steps=0"])
def test_no_epoch_is_nothing_to_train(work: Path, frames: Path, capsys: pytest.CaptureFixture[str], limit: str) -> None:
    assert "nothing to train" in refused(capsys, f"--data.root={frames}", *TINY, limit)
    assert not Path("lightning_logs").exists()


def test_a_picture_in_two_classes_is_named_before_training(
    work: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(root / "ant/frame3.png", root / "bee/frame13.png")
    assert main(["fit", f"--data.root={root}", *TINY, "--data.split=random", "--trainer.max_epochs=1"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    words = "warning: 1 picture is in two classes, such as ant/frame3.png and bee/frame13.png: no model can be right"
    assert out.index(words) < out.index("training on cpu")
    assert len([line for line in out.split("warning: ") if "in two classes" in line]) == 1


def test_weights_to_start_from_are_looked_for_where_the_runs_are(work: Path, frames: Path) -> None:
    """Not in ./lightning_logs, where another run may have the same name."""
    command = ["fit", f"--data.root={frames}", *TINY, "--trainer.max_epochs=1", "--trainer.default_root_dir=there"]
    assert main([*command, "--run=one"]) == 0
    assert main([*command, "--run=two", "--model.init_from=one", "--model.lr=0"]) == 0
    one, two = (torch.load(f"there/lightning_logs/{name}/checkpoints/last.ckpt") for name in ("one", "two"))
    torch.testing.assert_close(two["state_dict"]["net.head.weight"], one["state_dict"]["net.head.weight"])
    assert Path(two["hyper_parameters"]["init_from"]).is_absolute()
    assert not Path("lightning_logs").exists()


def test_a_grey_model_trains_is_checked_tested_and_labels(
    work: Path, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grey = ["--model.in_channels=1", "--trainer.max_epochs=1"]
    assert main(["fit", f"--data.root={frames}", *TINY, *grey, "--run=grey"]) == 0
    weights = torch.load("lightning_logs/grey/checkpoints/last.ckpt")["state_dict"]
    assert weights["net.patch_embedding.projection.weight"].shape == (16, 1, 8, 8)
    assert main(["test"]) == 0
    assert main(["predict", "--attention", "--images", str(frames)]) == 0
    picture = next(frames.rglob("*.jpg"))
    model = load_classifier("grey")
    ((path, probabilities),) = predict_paths(model, [picture])
    table = Path("lightning_logs/grey/predictions/0001.csv").read_text().splitlines()
    (row,) = [line.split(",") for line in table if line.startswith(path)]
    assert float(row[3]) == pytest.approx(probabilities.max().item(), abs=1e-5)
    line = refused(capsys, f"--data.root={frames}", *TINY, "--model.in_channels=4")
    assert "in_channels is 4" in line


def test_sizes_that_are_left_out_fit_the_pictures_and_are_written_as_numbers(
    work: Path, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The frames are of 36 x 64 pixels."""
    rest = [option for option in TINY if "_size=[" not in option and "patch_size" not in option]
    command = ["fit", f"--data.root={frames}", *rest, "--trainer.max_epochs=1"]
    assert main([*command, "--run=one"]) == 0
    assert "pictures of 36x64 (height x width): image size 36x64, patch size 4\n" in capsys.readouterr().out
    settings = torch.load("lightning_logs/one/checkpoints/best.ckpt")["hyper_parameters"]
    config = yaml.safe_load(Path("lightning_logs/one/config.yaml").read_text())["model"]
    status = json.loads(Path("lightning_logs/one/status.json").read_text())
    for written in (settings, config, status):
        assert (list(written["image_size"]), written["patch_size"]) == ([36, 64], 4)
    assert main(["test"]) == 0
    assert main(["fit", "--resume=one", "--trainer.max_epochs=2"]) == 0
    capsys.readouterr()
    # What is given stays, weights bring their own, and a config may say that they are left out.
    assert main([*command, "--run=two", "--model.image_size=32"]) == 0
    assert "image size 32x32, patch size 4" in capsys.readouterr().out
    assert main([*command, "--run=three", "--model.init_from=two", "--model.image_size=null"]) == 0
    settings = torch.load("lightning_logs/three/checkpoints/best.ckpt")["hyper_parameters"]
    assert (settings["image_size"], settings["patch_size"]) == (32, 4)


@pytest.mark.parametrize("option", ["--model.dept=3", "--data.roo=x", "--resum=x"])
def test_options_are_not_abbreviated(work: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    name = option.partition("=")[0]
    line = refused(capsys, option)
    assert line.startswith(f"error: there is no option {name}; did you mean {name}")


def test_a_folder_that_cannot_keep_runs_is_named(work: Path, frames: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("lightning_logs").touch()
    line = refused(capsys, f"--data.root={frames}", *TINY)
    assert "runs cannot be kept in" in line
    assert "--trainer.default_root_dir" in line
    assert "Errno" not in line


@pytest.fixture
def first(work: Path, frames: Path) -> Path:
    """A run of three epochs, of which the best is not the last."""
    assert main(["fit", f"--data.root={frames}", *TINY, "--trainer.max_epochs=3", "--run=first"]) == 0
    run = Path("lightning_logs/first")
    best = torch.load(run / "checkpoints/last.ckpt")
    best |= {"epoch": 0, "global_step": 5}
    for progress in best["loops"]["fit_loop"]["epoch_progress"].values():
        progress |= {"ready": 1, "started": 1, "processed": 1, "completed": 0}
    torch.save(best, run / "checkpoints/best.ckpt")
    return run


@pytest.mark.parametrize("fault", ["gone", "damaged"])
def test_a_run_without_its_last_checkpoint_says_which_epochs_come_again(
    first: Path, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    last = first / "checkpoints/last.ckpt"
    if fault == "gone":
        last.unlink()
    else:
        last.write_bytes(last.read_bytes()[:1000])
    capsys.readouterr()
    assert main(["fit", "--resume=first", "--trainer.max_epochs=4"]) == 0
    out = capsys.readouterr().out
    assert "last.ckpt is gone or damaged: going on from best.ckpt after epoch 1; epochs 2 to 3 come once more" in out
    assert json.loads((first / "status.json").read_text())["epochs"] == 4


def test_a_whole_run_goes_on_without_a_word_of_it(first: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["fit", "--resume=first", "--trainer.max_epochs=4"]) == 0
    assert "once more" not in capsys.readouterr().out


@pytest.mark.parametrize("change", ["--model.decay_all=true", "--model.init_from=first"])
def test_what_holds_for_the_whole_run_cannot_change(
    first: Path, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    name = change.removeprefix("--").partition("=")[0]
    line = refused(capsys, "--resume=first", "--trainer.max_epochs=4", change)
    assert f"began with {name}" in line
    assert "cannot be changed while it goes on" in line


@pytest.mark.parametrize("change", ["--model.decay_all=true", "--model.optimizer=muon", "--model.guide=1"])
def test_what_the_optimizer_s_state_hangs_on_cannot_change_in_a_new_run_from_a_checkpoint(
    first: Path, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    start = ["--ckpt_path=lightning_logs/first/checkpoints/last.ckpt", "--run=second", "--trainer.max_epochs=4"]
    config = f"--config={first / 'config.yaml'}"
    line = refused(capsys, config, *start, change)
    assert f"last.ckpt began with {change.removeprefix('--').partition('=')[0]}" in line
    assert "--model.init_from takes the weights alone" in line
    assert not (first.parent / "second").exists()
    assert main(["fit", config, *start, "--model.ema=0.9"]) == 0


def test_rates_may_change_while_a_run_goes_on(first: Path) -> None:
    assert main(["fit", "--resume=first", "--trainer.max_epochs=4", "--model.dropout=0.1"]) == 0
    config = yaml.safe_load((first / "config.yaml").read_text())
    assert config["model"]["dropout"] == 0.1


def test_a_lone_checkpoint_says_where_its_results_go(
    first: Path, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(first / "checkpoints/last.ckpt", "model.ckpt")
    picture = str(next(frames.rglob("*.jpg")))
    capsys.readouterr()
    assert main(["predict", "--run=model.ckpt", "--images", picture]) == 0
    assert f"is in no run's folder: results go to {Path('predictions').absolute()}" in capsys.readouterr().out
    assert main(["test", "--run=model.ckpt"]) == 0
    assert f"is in no run's folder: results go to {Path('report').absolute()}" in capsys.readouterr().out


@pytest.mark.parametrize(("command", "taken"), [("test", "report"), ("predict", "predictions")])
def test_results_that_cannot_be_written_are_refused_before_anything_is_computed(
    first: Path,
    frames: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    taken: str,
) -> None:
    """A file in the folder's place stops root as well, whom no permission stops."""
    (first / taken).touch()
    with monkeypatch.context() as patch:
        patch.setattr("vit_lightning.module.ViTClassifier.forward", lambda *_: pytest.fail("computed"))
        capsys.readouterr()
        assert main([command]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"cannot be kept in {first / taken}" in line
    assert "--output" in line
    assert main([command, f"--output=elsewhere/{taken}.csv"]) == 0
    assert Path(f"elsewhere/{taken}.csv").exists()
