"""What `test` leaves in `report/` and says, from the command line."""

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ttest_1samp
from sklearn.metrics import accuracy_score, f1_score, log_loss

from vit_lightning.cli import main
from vit_lightning.evaluation.unknown import keep_unknown, read_unknown

TINY = [
    *("--model.image_size=[16,32]", "--model.patch_size=8", "--model.dim=16", "--model.depth=1", "--model.heads=2"),
    *("--data.augment=light", "--data.num_workers=0", "--data.batch_size=16", "--trainer.accelerator=cpu"),
]
BLOCKS = ["--data.split=blocks", "--data.block_length=4", "--data.guard=0", "--data.val_fraction=0.25"]


@pytest.fixture(scope="module")
def home(frames: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a run, `one`, that was tested, which the tests read only."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        command = ["fit", "--run=one", f"--data.root={frames}", *TINY, *BLOCKS, "--data.test_fraction=0.25"]
        assert main([*command, "--trainer.max_epochs=3", "--model.lr=0.003"]) == 0
        assert main(["test", "--run=one"]) == 0
    return folder


@pytest.fixture
def run(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tested run in a working folder of the test's own."""
    shutil.copytree(home, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Path("lightning_logs/one")


def metrics_of(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "report" / "metrics.json").read_text(encoding="utf-8"))
    return content


def predictions_of(run: Path) -> list[dict[str, str]]:
    with (run / "report" / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_metrics_are_scikit_learns_of_the_predictions(run: Path) -> None:
    metrics, rows = metrics_of(run), predictions_of(run)
    labels, said = [row["label"] for row in rows], [row["predicted"] for row in rows]
    assert metrics["images"] == len(rows) == 24
    assert metrics["accuracy"] == pytest.approx(accuracy_score(labels, said), abs=1e-6)
    assert metrics["macro_f1"] == pytest.approx(f1_score(labels, said, average="macro"), abs=1e-6)
    names = list(metrics["per_class"])
    probabilities = np.array([[float(row[f"p_{name}"]) for name in names] for row in rows])
    reference = log_loss(labels, probabilities / probabilities.sum(axis=1, keepdims=True), labels=names)
    assert metrics["calibration"]["before"]["nll"] == pytest.approx(reference, abs=1e-5)
    assert metrics["calibration"]["temperature"] > 0
    assert metrics["calibration"]["after"] is not None
    assert set(metrics["baselines"]) == {"majority", "neighbour_number", "thumbnail_neighbour"}


def test_the_lead_over_the_majority_is_paired_over_blocks(run: Path) -> None:
    """Against scipy's t test over the predictions' six blocks of four frames."""
    metrics, rows = metrics_of(run), predictions_of(run)
    with (run / "split.csv").open(newline="", encoding="utf-8") as file:
        train = [row["label"] for row in csv.DictReader(file) if row["split"] == "train"]
    largest = max(sorted(set(train)), key=train.count)
    moved: dict[str, list[int]] = {}
    for row in rows:
        moved.setdefault(row["group"], []).append((row["predicted"] == row["label"]) - (largest == row["label"]))
    reference = ttest_1samp([np.mean(each) for each in moved.values()], 0.0)
    found = metrics["leads"]["majority"]
    assert found["difference"] == pytest.approx(metrics["accuracy"] - metrics["baselines"]["majority"])
    assert found["interval"] == pytest.approx(list(reference.confidence_interval(0.95)))
    assert found["p"] == pytest.approx(max(reference.pvalue, 2**-5))


def test_predictions_are_of_the_test_part_and_its_blocks(run: Path) -> None:
    with (run / "split.csv").open(newline="", encoding="utf-8") as file:
        split = [row for row in csv.DictReader(file) if row["split"] == "test"]
    rows = predictions_of(run)
    assert [(row["path"], row["label"], row["group"]) for row in rows] == [
        (row["path"], row["label"], row["group"]) for row in split
    ]
    metrics = metrics_of(run)
    assert metrics["groups"] == {"kind": "blocks of 4 frames", "count": 6}
    low, high = metrics["intervals"]["accuracy"]
    assert low < metrics["accuracy"] < high
    assert metrics["split"]["kind"] == "blocks"
    assert (metrics["run"], metrics["checkpoint"], metrics["part"]) == ("one", "best.ckpt", "test")


def test_what_test_says(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(run / "report")
    capsys.readouterr()
    assert main(["test", "--run=one"]) == 0
    out = capsys.readouterr().out
    metrics = metrics_of(run)
    assert "test images 24: acc " in out
    low, high = metrics["intervals"]["accuracy"]
    assert f"95 % interval of acc {low:.3f} to {high:.3f}, over 6 blocks of 4 frames" in out
    assert f"test acc to beat: majority {metrics['baselines']['majority']:.3f}, nearest number" in out
    first = metrics["leads"]["majority"]
    low, high = first["interval"]
    assert f"{100 * first['difference']:+.1f} points over the majority [{100 * low:.1f}, {100 * high:.1f}]" in out
    assert f"calibration error {metrics['calibration']['before']['ece']:.3f}; a calibrated model" in out
    assert "the report is lightning_logs/one/report/report.html" in out
    assert (run / "report" / "report.html").stat().st_size > 10_000
    assert max(map(len, out.splitlines())) <= 80


def test_the_report_has_the_training_as_the_run_recorded_it(run: Path) -> None:
    status = json.loads((run / "status.json").read_text())
    page = (run / "report" / "report.html").read_text(encoding="utf-8")
    assert f"The network has {status['parameters']:,} parameters." in page
    assert "It was trained for 3 epochs on cpu" in page
    assert f"at {round(status['images_per_second']):,} images a second" in page
    assert f"accuracy (best val {status['best']['val/acc']:.4f} in epoch {status['best']['epoch']})" in page
    assert f"majority {status['baselines']['majority']:.3f}" in page
    assert re.search(r"model\.<wbr>dim</th>\s*<td>16</td>\s*<td>256</td>", page)
    assert "trainer.<wbr>devices" not in page  # the command's own default
    for name in ("history.csv", "status.json", "config.yaml"):  # as of a run that knew none of it
        (run / name).unlink()
    assert main(["test", "--run=lightning_logs/one"]) == 0
    assert "How it was trained" not in (run / "report" / "report.html").read_text(encoding="utf-8")


def test_without_a_test_part_validation_is_scored_and_has_no_temperature(
    run: Path, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["fit", "--run=two", f"--data.root={frames}", *TINY, *BLOCKS, "--trainer.max_epochs=1"]
    assert main(command) == 0
    assert main(["test", "--run=two"]) == 0
    metrics = metrics_of(Path("lightning_logs/two"))
    assert metrics["part"] == "val"
    assert metrics["calibration"]["temperature"] is None
    assert main(["runs", "compare", "one", "two"]) in (0, 2)  # as their parts have images in common or not


def test_a_random_split_is_flagged_at_fit_and_in_the_report(
    run: Path, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--data.split=random", "--data.val_fraction=0.2", "--data.test_fraction=0.2", "--trainer.max_epochs=1"]
    capsys.readouterr()
    assert main(["fit", "--run=leaky", f"--data.root={frames}", *TINY, *settings]) == 0
    out = capsys.readouterr().out
    assert "val acc to beat: majority" in out
    assert "of the val images have a near-duplicate in training: the split leaks" in out
    status = json.loads(Path("lightning_logs/leaky/status.json").read_text())
    assert status["baselines"]["part"] == "val"
    assert status["baselines"]["near_duplicates"] > 0.05
    assert main(["test", "--run=leaky"]) == 0
    metrics = metrics_of(Path("lightning_logs/leaky"))
    assert metrics["near_duplicates"]["flagged"]
    assert metrics["near_duplicates"]["sentence"].endswith("--data.group_by duplicates.")
    assert metrics["groups"] == {"kind": "images", "count": metrics["images"]}


def test_another_split_is_called_by_its_name(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And `runs compare` does not take it for the run's own, wherever it lies."""
    shutil.copytree("lightning_logs/one", "lightning_logs/twin")
    command = ["test", "--run=one", "--data.split=random", "--allow_seen=true"]
    assert main([*command, f"--output={run / 'report'}"]) == 0
    metrics = metrics_of(run)
    assert metrics["split"]["kind"] == "random"
    assert metrics["groups"]["kind"] == "images"
    assert main(["runs", "compare", "one", "twin"]) == 2
    assert "one was last tested on another split" in capsys.readouterr().err


def test_a_cache_that_cannot_be_written_costs_no_report(run: Path) -> None:
    Path("file").touch()
    shutil.rmtree(run / "report")
    assert main(["test", "--run=one", "--data.cache_dir=file/cache"]) == 0
    assert (run / "report" / "report.html").is_file()


def test_folds_of_a_split_file_are_refused(run: Path, frames: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(run / "split.csv", "mine.csv")
    assert main(["fit", f"--data.root={frames}", *TINY, "--data.split=mine.csv", "--data.fold=1/2"]) == 2
    assert "data.fold shares the images out, but" in capsys.readouterr().err


def test_a_part_that_was_cut_short_has_no_report(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(run / "report")
    assert main(["test", "--run=one", "--trainer.limit_test_batches=0.5"]) == 0
    assert "no report: trainer.limit_test_batches left images out" in capsys.readouterr().out
    assert not (run / "report").exists()


def test_a_model_that_gives_no_numbers_has_no_report(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(run / "report")
    checkpoint = torch.load(run / "checkpoints" / "best.ckpt")
    checkpoint["state_dict"]["net.head.bias"][0] = float("nan")
    torch.save(checkpoint, run / "checkpoints" / "best.ckpt")
    assert main(["test", "--run=one"]) == 0
    assert "no report: the model gives no numbers" in capsys.readouterr().out
    assert not (run / "report").exists()


def test_a_lone_checkpoint_is_reported_beside(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(run / "checkpoints" / "best.ckpt", "lone.ckpt")
    assert main(["test", "--run=lone.ckpt"]) == 0
    assert json.loads(Path("report/metrics.json").read_text())["run"] == "lone"
    assert "How it was trained" not in Path("report/report.html").read_text(encoding="utf-8")


def test_folds_test_all_images_and_are_compared_together(
    run: Path, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split = ["--data.split=random", "--data.val_fraction=0.2"]
    base = [f"--data.root={frames}", *TINY, *split, "--trainer.max_epochs=1"]
    for name, lr in (("a", "0.001"), ("b", "0.0001")):
        for fold in ("1/2", "2/2"):
            command = ["fit", f"--run={name}{fold[0]}", *base, f"--data.fold={fold}", f"--model.lr={lr}"]
            assert main(command) == 0
            assert main(["test", f"--run={name}{fold[0]}"]) == 0
    capsys.readouterr()
    assert main(["runs", "compare", "a1", "b2"]) == 0
    out = capsys.readouterr().out
    assert "96 images, each by itself, scored by both" in out
    assert "a1, a2" in out


def test_what_is_kept_of_sets_is_told_by_predict_and_counts_for_these_weights_alone(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Six blocks are too few for sets; a threshold as of folds is put there by hand."""
    metrics, checkpoint = metrics_of(run), run / "checkpoints/best.ckpt"
    assert all("takes" in each["refused"] for each in metrics["sets"]["levels"])
    (run / "report/unknown.json").unlink()  # what is kept of strangers
    assert main(["predict", "--run=one", "--output=plain.csv"]) == 0
    kept = {"level": 0.9, "threshold": 0.75, "groups": 39, "kind": "blocks", "models": 5}
    keep_unknown(run, checkpoint, sets=kept)
    assert main(["predict", "--run=one", "--output=sets.csv"]) == 0
    assert main(["predict", "--run=one", "--output=sets.json", "--top=1"]) == 0
    with Path("plain.csv").open(newline="") as file:
        assert "set" not in next(csv.reader(file))
    with Path("sets.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, each in zip(rows, json.loads(Path("sets.json").read_text()), strict=True):
        likely = [row["label"], *(row[f"label_{k}"] for k in (2, 3) if float(row[f"confidence_{k}"]) >= 0.25)]
        assert row["set"] == " | ".join(likely)
        assert each["set"] == likely
    said = " ".join(capsys.readouterr().out.split())
    assert "hold the true class for 90% of new groups (39 were tested, by 5 models)" in said
    checkpoint.write_bytes(checkpoint.read_bytes() + b" ")
    assert read_unknown(run, checkpoint) == {}
    assert "is of other weights than" in " ".join("".join(capsys.readouterr()).split())
    keep_unknown(run, checkpoint, sets=None)
    assert not (run / "report/unknown.json").exists()


def test_beside_each_mistake_is_what_it_resembles_in_training(run: Path) -> None:
    page = (run / "report/report.html").read_text(encoding="utf-8")
    mistakes = sum(row["label"] != row["predicted"] for row in predictions_of(run))
    assert page.count("<summary>What it resembles") == min(12, mistakes) > 0
    assert page.count('<ul class="near">') == min(12, mistakes)
    with np.load(run / "report/embeddings.npz") as file:
        assert file["vector"].shape == (len(file["path"]), 16)
        assert file["path"][file["split"] == "test"].tolist() == [row["path"] for row in predictions_of(run)]
    shutil.rmtree(run / "report")
    assert main(["test", "--run=one", "--neighbours=false"]) == 0
    assert "<summary>What it resembles" not in (run / "report/report.html").read_text(encoding="utf-8")
    assert not (run / "report/embeddings.npz").exists()


def test_predict_says_which_pictures_are_strangers(run: Path, frames: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = json.loads((run / "report/unknown.json").read_text())
    assert kept["strangers"] == {"share": 0.95, "threshold": metrics_of(run)["strangers"]["threshold"]}
    kept["strangers"]["threshold"] = 1e-4  # three epochs tell little; so near is nothing but the training image itself
    (run / "report/unknown.json").write_text(json.dumps(kept))
    Path("white").mkdir()
    Image.new("RGB", (64, 36), "white").save("white/a.png")
    Path("white/b.png").write_bytes(b"no picture")
    known = next(frames / row["path"] for row in csv.DictReader((run / "split.csv").open()) if row["split"] == "train")
    assert main(["predict", "--run=one", "--images", str(known), "white", "--output=x.csv", "--attention"]) == 1
    with Path("x.csv").open(newline="") as file:
        assert [row["stranger"] for row in csv.DictReader(file)] == ["no", "yes"]
    assert "strangers, unlike all training images: 1 of 2" in capsys.readouterr().out
    assert main(["predict", "--run=one", f"--images={known}", "--output=y.csv", "--smooth=2"]) == 0
    assert "stranger" not in Path("y.csv").read_text()
