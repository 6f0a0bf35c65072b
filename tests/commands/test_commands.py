"""fit, validate, test and predict from the command line to the files, on drawn frames."""

import csv
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from sklearn.metrics import accuracy_score, f1_score

from vit_lightning.cli import main

TINY = [
    "--model.image_size=[16,32]",
    "--model.patch_size=8",
    "--model.dim=16",
    "--model.depth=1",
    "--model.heads=2",
    "--data.augment=light",
    "--data.num_workers=0",
    "--data.batch_size=16",
    "--trainer.accelerator=cpu",
    "--trainer.log_every_n_steps=1",
]
SPLIT = [
    "--data.split=blocks",
    "--data.block_length=4",
    "--data.guard=0",
    "--data.val_fraction=0.25",
    "--data.test_fraction=0.25",
]

CONTRACT = {
    "config.yaml",
    "status.json",
    "run.log",
    "split.csv",
    "class_mapping.json",
    "checkpoints",
    "history.csv",
    "learning_rate.csv",
    "training_curves.png",
    "train_images.png",
    "val_images.png",
}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def status(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "status.json").read_text())
    return content


def fit(frames: Path, *arguments: str) -> Path:
    """Trains a tiny model in the working folder; gives the newest run's folder."""
    assert main(["fit", f"--data.root={frames}", *TINY, *SPLIT, "--trainer.max_epochs=3", *arguments]) == 0
    return max(Path("lightning_logs").iterdir(), key=lambda folder: folder.stat().st_ctime_ns)


@pytest.fixture(scope="module")
def home(frames: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with one finished run, `first`, which the tests read only."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        fit(frames, "--run=first", "--model.lr=0.003")
    return folder


@pytest.fixture
def first(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The finished run in a working folder of the test's own."""
    shutil.copytree(home, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Path("lightning_logs/first")


def one_line_error(capsys: pytest.CaptureFixture[str], arguments: Sequence[str], *words: str) -> str:
    """Runs a command that has to fail with one line that has all the words."""
    capsys.readouterr()
    assert main(arguments) == 2
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]
    assert "Traceback" not in captured.out + captured.err
    assert "unexpected" not in lines[0]
    return lines[0]


# A run's folder


def test_a_run_s_folder_has_what_the_design_promises(home: Path) -> None:
    folder = home / "lightning_logs/first"
    names = {path.name for path in folder.iterdir()}
    events = {name for name in names if name.startswith("events.out.tfevents.")}
    assert len(events) == 1
    assert names - events == CONTRACT
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert json.loads((folder / "class_mapping.json").read_text()) == {
        "0": "jerry",
        "1": "tom",
        "2": "tom_jerry_0",
        "3": "tom_jerry_1",
    }
    with Image.open(folder / "training_curves.png") as picture:
        assert picture.width > 1000


def test_history_and_status_tell_the_same_story(home: Path) -> None:
    folder = home / "lightning_logs/first"
    history, told = rows(folder / "history.csv"), status(folder)
    assert list(history[0]) == ["epoch", "train/loss", "train/acc", "train/f1", "val/loss", "val/acc", "val/f1"]
    assert [row["epoch"] for row in history] == ["1", "2", "3"]
    accuracies = [float(row["val/acc"]) for row in history]
    assert told["state"] == "finished"
    assert told["epochs"] == told["max_epochs"] == 3
    assert told["best"]["val/acc"] == max(accuracies)
    assert told["best"]["epoch"] == accuracies.index(max(accuracies)) + 1
    assert told["last"]["val/acc"] == accuracies[-1]
    assert told["data"]["name"] == "frames0"
    assert told["split"]["kind"] == "blocks"
    parts = [row["split"] for row in rows(folder / "split.csv")]
    assert {part: parts.count(part) for part in ("train", "val", "test")} == {"train": 48, "val": 24, "test": 24}
    assert [told["split"][part] for part in ("train", "val", "test")] == [48, 24, 24]


def test_every_step_s_learning_rate_is_written(home: Path) -> None:
    found = [(int(row["step"]), float(row["lr"])) for row in rows(home / "lightning_logs/first/learning_rate.csv")]
    # 48 images in batches of 16 over 3 epochs: 9 steps, of which round(0.1 * 9) = 1 rises from 0.
    expected = [0.0] + [0.003 * (1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)]
    assert [step for step, _ in found] == list(range(9))
    assert [rate for _, rate in found] == pytest.approx(expected)


def test_the_log_keeps_what_the_terminal_showed(home: Path) -> None:
    text = (home / "lightning_logs/first/run.log").read_text()
    assert text.count("epoch 1/3  train loss") == 1
    assert text.count("  val loss") == 3
    assert "EncoderBlock" in text
    assert "[1, 9, 16]" in text  # the output shape of a block: a class token and 2 x 4 patches


def test_tensorboard_has_the_curves(home: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(home / "lightning_logs/first"))
    events.Reload()
    scores = {f"{part}/{score}" for part in ("train", "val") for score in ("loss", "acc", "f1")}
    assert scores | {"train/lr", "train/grad_norm", "train/loss_step"} <= set(events.Tags()["scalars"])
    assert "hp_metric" not in events.Tags()["scalars"]
    history = rows(home / "lightning_logs/first/history.csv")
    found = [event.value for event in events.Scalars("val/acc")]
    assert found == pytest.approx([float(row["val/acc"]) for row in history], abs=1e-6)
    assert {"train/images", "val/images", "val/confusion"} == set(events.Tags()["images"])
    classes = {"jerry", "tom", "tom_jerry_0", "tom_jerry_1"}
    assert {f"val/recall/{name}" for name in classes} <= set(events.Tags()["scalars"])
    assert {f"val/pr/{name}" for name in classes} <= set(events.Tags()["tensors"])
    steps = {event.step for event in events.Scalars("train/lr")}
    for name in ("train/update_norm", "train/images_per_second"):
        assert {event.step for event in events.Scalars(name)} == steps
    assert events.Scalars("val/recall/tom")[-1].step == events.Scalars("val/acc")[-1].step == max(steps)


def test_the_hparams_tab_has_the_best_accuracy_beside_what_was_asked_for(home: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    events = EventAccumulator(str(home / "lightning_logs/first"))
    events.Reload()
    (score,) = [event.value for event in events.Scalars("hp/val_acc")]
    assert score == pytest.approx(status(home / "lightning_logs/first")["best"]["val/acc"])
    content = events.PluginTagToContent("hparams")
    asked = HParamsPluginData.FromString(content["_hparams_/session_start_info"]).session_start_info.hparams
    assert (asked["lr"].number_value, asked["augment"].string_value) == (0.003, "light")
    assert "class_names" not in asked
    metrics = HParamsPluginData.FromString(content["_hparams_/experiment"]).experiment.metric_infos
    assert [metric.name.tag for metric in metrics] == ["hp/val_acc"]


def test_checkpoints_are_the_best_and_the_last_and_load_without_pickle(home: Path) -> None:
    folder = home / "lightning_logs/first"
    told = status(folder)
    for name in ("best", "last"):
        checkpoint = torch.load(folder / f"checkpoints/{name}.ckpt")  # weights_only is torch's default
        assert checkpoint["epoch"] + 1 == told[name]["epoch"]
        assert checkpoint["hyper_parameters"]["class_names"] == ["jerry", "tom", "tom_jerry_0", "tom_jerry_1"]
        assert checkpoint["datamodule_hyper_parameters"]["split"] == "blocks"
        assert all(not key.startswith("_orig_mod") for key in checkpoint["state_dict"])


def test_the_saved_config_repeats_the_run(first: Path) -> None:
    assert main(["fit", "--config", str(first / "config.yaml"), "--run", "again"]) == 0
    again = first.parent / "again"
    assert (again / "history.csv").read_text() == (first / "history.csv").read_text()
    assert (again / "split.csv").read_text() == (first / "split.csv").read_text()


def test_runs_are_counted_up_and_never_overwritten(
    first: Path, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.yaml").write_text("trainer: {max_epochs: 1, limit_train_batches: 1}")
    arguments = ["fit", "--config=mine.yaml", f"--data.root={frames}", *TINY]
    assert main(arguments) == main(arguments) == 0
    assert {"mine-001", "mine-002"} <= {path.name for path in first.parent.iterdir()}
    before = (first / "history.csv").read_bytes()
    one_line_error(capsys, [*arguments, "--run=first"], "first", "already exists", "choose another")
    assert (first / "history.csv").read_bytes() == before


def test_a_start_that_fails_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    one_line_error(capsys, ["fit", f"--data.root={frames}", *TINY, "--data.split=blocks"], "1 blocks of 120")
    assert list(tmp_path.iterdir()) == []


def test_a_run_from_a_relative_root_is_evaluated_from_elsewhere(
    tmp_path: Path, frames: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(frames, "data")
    run = fit(Path("data"), "--run=first").resolve()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["validate", f"--run={run}"]) == 0


def test_a_run_without_a_validation_part_keeps_its_last_weights(
    tmp_path: Path, frames: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = fit(frames, "--run=all", "--data.val_fraction=0", "--data.test_fraction=0")
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["last.ckpt"]
    assert status(run)["state"] == "finished"
    assert main(["predict", "--images", str(next(frames.rglob("*.jpg")))]) == 0


def test_several_configs_merge_and_flags_win(first: Path, frames: Path) -> None:
    Path("one.yaml").write_text("model: {depth: 2, lr: 0.1}\ntrainer: {max_epochs: 1}")
    Path("two.yaml").write_text("model: {lr: 0.2, mlp_ratio: 3}")
    tiny = [word for word in TINY if "depth" not in word]
    command = ["fit", "--config=one.yaml", "--config=two.yaml", f"--data.root={frames}", *tiny, "--model.mlp_ratio=1"]
    assert main([*command, "--run=merged"]) == 0
    config = yaml.safe_load(Path("lightning_logs/merged/config.yaml").read_text())
    assert (config["model"]["depth"], config["model"]["lr"], config["model"]["mlp_ratio"]) == (2, 0.2, 1)


def test_nothing_is_advertised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lightning has tips without a switch; a run's own lines are all that is shown."""
    monkeypatch.chdir(tmp_path)
    # On blocks of so few frames a part lacks a class, of which it warns; a random split leaks.
    fit(frames, "--data.split=groups", "--data.group_by=duplicates")
    captured = capsys.readouterr()
    for word in ("tip:", "litlogger", "litmodels", "gpu available", "warning", "seed set"):
        assert word not in (captured.out + captured.err).lower()
    assert max(map(len, captured.out.splitlines()[2:])) <= 80  # but for the paths in the first two
    assert captured.err == ""


def test_fast_dev_run_leaves_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", f"--data.root={frames}", *TINY, "--trainer.fast_dev_run=1"]) == 0
    assert not Path("lightning_logs").exists()


# Evaluation


@pytest.mark.parametrize("form", [[], ["--run=first"], ["--run=lightning_logs/first"], ["--run=best"]])
def test_validate_finds_the_run_and_repeats_its_best_score(
    first: Path, form: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["validate", *form]) == 0
    out = capsys.readouterr().out
    best = status(first)["best"]
    assert f"val images 24: acc {best['val/acc']:.4f} f1 {best['val/f1']:.4f} loss {best['val/loss']:.4f}" in out
    assert "first" in out
    assert "warning" not in out


def test_predictions_of_the_held_out_part_agree_with_test(first: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --images the test part is labelled; scikit-learn's scores of that file are those that `test` prints."""
    assert main(["predict"]) == 0
    predictions = rows(first / "predictions/0001.csv")
    truth = {row["path"]: row["label"] for row in rows(first / "split.csv") if row["split"] == "test"}
    assert len(predictions) == len(truth) == 24
    root = status(first)["data"]["root"]
    labels = [truth[Path(row["path"]).relative_to(root).as_posix()] for row in predictions]
    guesses = [row["label"] for row in predictions]
    capsys.readouterr()
    assert main(["test"]) == 0
    accuracy = accuracy_score(labels, guesses)
    f1 = f1_score(labels, guesses, average="macro", labels=sorted(set(labels) | set(guesses)))
    assert f"test images 24: acc {accuracy:.4f} f1 {f1:.4f}" in capsys.readouterr().out


def test_test_says_when_it_scores_the_validation_part(
    first: Path, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(frames, "--run=no-test", "--data.test_fraction=0")
    capsys.readouterr()
    assert main(["test", "--run=no-test"]) == 0
    out = capsys.readouterr().out
    assert "no test part" in out
    assert "val images 24" in out


def test_images_that_came_later_stay_out_of_the_score(
    tmp_path: Path, frames: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(frames, "data")
    fit(Path("data"), "--run=first")
    picture = next(Path("data").rglob("*.jpg"))
    for number in range(200, 230):
        shutil.copy(picture, picture.with_name(f"frame{number}.jpg"))
    capsys.readouterr()
    assert main(["validate"]) == 0
    assert "val images 24:" in capsys.readouterr().out


def test_flags_beat_the_checkpoint(first: Path, frames: Path) -> None:
    """Lightning's own way keeps the checkpoint's learning rate without a word."""
    last = first / "checkpoints/last.ckpt"
    Path("more.yaml").write_text("model: {weight_decay: 0.25}")
    command = ["fit", f"--ckpt_path={last}", "--run=more", "--config=more.yaml", "--model.lr=0.5"]
    assert main([*command, "--trainer.max_epochs=4", "--data.num_workers=0", "--trainer.accelerator=cpu"]) == 0
    config = yaml.safe_load(Path("lightning_logs/more/config.yaml").read_text())
    assert config["model"]["lr"] == 0.5
    assert config["model"]["weight_decay"] == 0.25
    assert config["model"]["dim"] == 16  # from the checkpoint
    assert config["data"]["block_length"] == 4
    checkpoint = torch.load("lightning_logs/more/checkpoints/last.ckpt")
    saved = checkpoint["hyper_parameters"]
    assert (saved["lr"], saved["weight_decay"], saved["dim"]) == (0.5, 0.25, 16)
    decayed, free = checkpoint["optimizer_states"][0]["param_groups"]
    assert (decayed["initial_lr"], decayed["weight_decay"], free["weight_decay"]) == (0.5, 0.25, 0.0)
    # 9 of 12 steps are done, of which one rose: the fourth epoch goes on where a run with lr 0.5 would be.
    found = [float(row["lr"]) for row in rows(Path("lightning_logs/more/learning_rate.csv"))]
    assert found == pytest.approx([0.5 * (1 + math.cos(math.pi * (step - 1) / 11)) / 2 for step in (9, 10, 11)])


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
@pytest.mark.parametrize("missing", [[], ["--ckpt_path=last"], ["--ckpt_path=best"], ["--run=best"], ["--run=x.ckpt"]])
def test_random_weights_are_never_evaluated(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    frames: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
    missing: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    one_line_error(capsys, [command, f"--data.root={frames}", *TINY, *missing])


def test_a_saved_config_does_not_lose_the_checkpoint(first: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`ckpt_path: null` of a saved config must not win over the flag, whichever comes first."""
    for order in ([0, 1], [1, 0]):
        words = [f"--ckpt_path={first / 'checkpoints/best.ckpt'}", f"--config={first / 'config.yaml'}"]
        capsys.readouterr()
        assert main(["validate", *(words[i] for i in order)]) == 0
        assert f"acc {status(first)['best']['val/acc']:.4f}" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["validate", "test", "predict", "fit"])
@pytest.mark.parametrize("change", ["depth=2", "heads=4", "image_size=[32,16]", "pool=gap"])
def test_another_network_than_the_weights_is_refused(
    first: Path, capsys: pytest.CaptureFixture[str], command: str, change: str
) -> None:
    """Other heads, or height and width exchanged, would even load without an error."""
    checkpoint = f"--ckpt_path={first / 'checkpoints/best.ckpt'}"
    words = change.replace("[32,16]", "(32, 16)").replace("=", " ")
    one_line_error(capsys, [command, checkpoint, f"--model.{change}"], words, "saved: ")
    assert [path.name for path in first.parent.iterdir()] == ["first"]


def test_a_run_and_a_checkpoint_at_once_are_refused(first: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one_line_error(capsys, ["validate", "--run=first", "--ckpt_path=last.ckpt"], "first", "last.ckpt", "give one")


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_a_split_that_holds_nothing_out_cannot_be_scored(
    tmp_path: Path,
    frames: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    fit(frames, "--run=all", "--data.val_fraction=0", "--data.test_fraction=0", "--trainer.max_epochs=1")
    one_line_error(capsys, [command], "holds no image out")


def test_validation_every_second_epoch_is_not_told_twice(
    tmp_path: Path, frames: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = fit(frames, "--run=sparse", "--trainer.check_val_every_n_epoch=2", "--trainer.max_epochs=4")
    assert [row["val/acc"] != "" for row in rows(run / "history.csv")] == [False, True, False, True]


def test_a_user_s_logger_takes_the_place_of_tensorboard(
    tmp_path: Path, frames: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    logger = ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=elsewhere"]
    run = fit(frames, "--run=mine", "--trainer.max_epochs=1", *logger)
    assert (run / "history.csv").is_file()
    assert not list(run.glob("events*"))
    assert list(Path("elsewhere").rglob("metrics.csv"))


def test_a_repeated_run_is_named_after_the_first(first: Path) -> None:
    first.rename("lightning_logs/pets-007")
    assert main(["fit", "--config=lightning_logs/pets-007/config.yaml", "--trainer.max_epochs=1"]) == 0
    assert Path("lightning_logs/pets-001").is_dir()


def test_a_split_file_is_found_from_elsewhere(first: Path, frames: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(first / "split.csv", "mine.csv")
    again = fit(frames, "--run=again", "--data.split=mine.csv", "--trainer.max_epochs=1").resolve()
    assert (again / "split.csv").read_bytes() == (first / "split.csv").read_bytes()
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert main(["fit", f"--config={again / 'config.yaml'}", "--run=there"]) == 0


def test_other_classes_than_the_model_s_are_refused(first: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("cat", "dog"):
        Path("pets", name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(Path("pets", name, "1.png"))
    line = one_line_error(capsys, ["validate", "--data.root=pets"], "jerry, tom", "cat, dog")
    assert line.count("\n") == 0


def test_a_file_that_is_no_checkpoint_is_one_line(first: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("broken.ckpt").write_bytes(b"not a checkpoint")
    one_line_error(capsys, ["predict", "--run=broken.ckpt"], "broken.ckpt", "no checkpoint")


# Prediction


def test_a_checkpoint_alone_is_enough_to_predict(
    home: Path, frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Moved to an empty folder under another name, without config, data or run beside it."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(home / "lightning_logs/first/checkpoints/best.ckpt", "model.ckpt")
    pictures = sorted(frames.rglob("*.jpg"))[:5]
    capsys.readouterr()
    command = ["predict", "--run=model.ckpt", "--output=out/labels.csv", "--images", *map(str, pictures)]
    assert main([*command, "--data.num_workers=0"]) == 0
    found = rows(Path("out/labels.csv"))
    assert [row["path"] for row in found] == list(map(str, pictures))
    names = ["jerry", "tom", "tom_jerry_0", "tom_jerry_1"]
    for row in found:
        assert row["label"] == names[int(row["index"])]
        assert 1 >= float(row["confidence"]) >= float(row["confidence_2"]) >= float(row["confidence_3"]) >= 0
        assert len({row["label"], row["label_2"], row["label_3"]}) == 3
    out = capsys.readouterr().out
    assert pictures[0].name in out
    assert f"{float(found[0]['confidence']):.1%}" in out
    assert "5 images" in out
    assert main(["predict", "--run=model.ckpt", "--images", str(pictures[0])]) == 0
    assert len(rows(Path("predictions/0001.csv"))) == 1


@pytest.mark.parametrize("source", ["kaggle", "demo"])
def test_a_checkpoint_predicts_without_its_data_set(
    first: Path, frames: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither downloads nor draws the images that it was trained on."""
    checkpoint = torch.load(first / "checkpoints/best.ckpt")
    checkpoint["datamodule_hyper_parameters"] |= {"source": source, "root": None}
    torch.save(checkpoint, "model.ckpt")
    monkeypatch.setattr("vit_lightning.data.kaggle.download", lambda _: pytest.fail("downloaded"))
    monkeypatch.setattr("vit_lightning.data.demo.draw_demo", lambda *_, **__: pytest.fail("drew"))
    assert main(["predict", "--run=model.ckpt", "--images", str(next(frames.rglob("*.jpg")))]) == 0


def test_predict_draws_the_attention(first: Path, frames: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = [str(path) for path in sorted(frames.rglob("*.jpg"))[:3]]
    (Path("broken.jpg")).touch()
    assert main(["predict", "--attention", "--images", *pictures, "broken.jpg"]) == 1
    folder = first / "predictions/0001-attention"
    drawn = {f"{row:05}-{Path(path).stem}.png" for row, path in enumerate(pictures, 1)}
    assert {path.name for path in folder.iterdir()} == drawn
    assert f"over them in {folder}\n" in capsys.readouterr().out


def test_predictions_are_numbered_and_take_files_folders_and_globs(first: Path, frames: Path) -> None:
    Path("any").mkdir()
    Image.new("L", (50, 20), 200).save("any/grey.png")
    Image.new("RGBA", (9, 70), (200, 10, 10, 90)).save("any/alpha.webp")
    jerry = next(frames.rglob("jerry"))
    assert main(["predict", "--images", "any", str(jerry / "*.jpg"), "any/grey.png"]) == 0
    assert main(["predict", "--images", "any/*.png"]) == 0
    paths = [row["path"] for row in rows(first / "predictions/0001.csv")]
    assert paths == ["any/alpha.webp", "any/grey.png", *map(str, sorted(jerry.glob("*.jpg")))]
    assert [row["path"] for row in rows(first / "predictions/0002.csv")] == ["any/grey.png"]


def test_images_that_do_not_exist_are_one_line(first: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one_line_error(capsys, ["predict", "--images", "nowhere/*.jpg"], "nowhere/*.jpg")


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit"], ["data.source is folder", "--data.root"]),
        (["fit", "--data.root=nowhere"], ["nowhere", "does not exist"]),
        (["fit", "--config=nowhere.yaml"], ["nowhere.yaml"]),
        (["fit", "--model.dpth=3"], ["--model.dpth"]),
        (["fit", "--model.depth=three"], ["model.depth", "three"]),
        (["fit", "--data.root=ROOT", "--model.image_size=224", "--model.patch_size=5"], ["224", "5"]),
        (["fit", "--data.root=ROOT", "--model.num_classes=7"], ["num_classes is 7", "4 classes"]),
        (["fit", "--data.root=ROOT", "--data.split=folders"], ["folders", "no train folder"]),
        (["fit", "--data.root=ROOT", "--trainer.accelerator=quantum"], ["quantum"]),
        (["fit", "--data.root=ROOT", "--run=a/b"], ["a/b"]),
        (["fit", "--data.root=ROOT", "--trainer.max_epochs=-1"], ["trainer.max_epochs"]),
        (["runs", "nonsense"], ["nonsense"]),
        (["runs", "show", "nonsense"], ["nonsense"]),
        (["predict", "--run=nowhere"], ["nowhere"]),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    frames: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    one_line_error(capsys, [word.replace("ROOT", str(frames)) for word in arguments], *words)
    assert list(tmp_path.glob("lightning_logs/*")) == []


# Traps of LightningCLI


def test_callbacks_of_a_user_join_the_run_s_own(tmp_path: Path, frames: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second config replaces the first's list of callbacks, so that the run's own are not kept in configs."""
    monkeypatch.chdir(tmp_path)
    summary = {"class_path": "lightning.pytorch.callbacks.RichModelSummary"}
    for name in ("one", "two"):
        Path(f"{name}.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": [summary]}}))
    command = ["--run=mine", "--config=one.yaml", "--config=two.yaml", "--trainer.max_epochs=1"]
    run = fit(frames, *command, "--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val/loss")
    assert {path.name for path in run.iterdir()} >= CONTRACT
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    states = torch.load(run / "checkpoints/last.ckpt")["callbacks"]
    assert any(name.startswith("EarlyStopping") for name in states)
    saved = yaml.safe_load((run / "config.yaml").read_text())["trainer"]["callbacks"]
    assert [callback["class_path"].rpartition(".")[2] for callback in saved] == ["RichModelSummary", "EarlyStopping"]


def test_a_printed_config_is_one_to_train_with(
    tmp_path: Path, frames: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["fit", f"--data.root={frames}", *TINY, "--print_config"])
    assert end.value.code in (0, None)
    Path("printed.yaml").write_text(capsys.readouterr().out)
    assert main(["fit", "--config=printed.yaml", "--trainer.max_epochs=1"]) == 0
    saved = yaml.safe_load(Path("lightning_logs/printed-001/config.yaml").read_text())
    assert saved["model"]["image_size"] == [16, 32]


def test_evaluating_twice_leaves_the_run_s_config_alone(first: Path) -> None:
    """Lightning's own saving of the config refuses the second time."""
    before = (first / "config.yaml").read_bytes()
    assert [main(["test"]), main(["test"]), main(["validate", "--model.lr=1"])] == [0, 0, 0]
    assert (first / "config.yaml").read_bytes() == before


@pytest.mark.parametrize("variable", ["SLURM_PROCID", "NODE_RANK"])
def test_a_variable_of_another_job_does_not_hide_the_run(
    tmp_path: Path, frames: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str
) -> None:
    """`srun` numbers tasks that have nothing to do with one another, too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, "1")
    run = fit(frames, "--run=mine", "--trainer.max_epochs=1")
    assert {path.name for path in Path("lightning_logs").iterdir()} == {"mine"}
    assert {path.name for path in run.iterdir()} >= CONTRACT
    assert "epoch 1/1" in capsys.readouterr().out
