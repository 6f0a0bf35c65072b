"""`--data.labels` through the commands: what a run keeps of it, and what goes on, is scored or refused."""

import csv
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from PIL import Image

from vit_lightning.cli import main
from vit_lightning.data.splits import read_table

SMALL = ["--model.image_size=8", "--model.patch_size=4", "--model.dim=8", "--model.depth=1", "--model.heads=1"]


def fit(*words: str) -> int:
    held = ["--data.val_fraction=0.2", "--data.test_fraction=0.2", "--trainer.max_epochs=1"]
    return main(["fit", *SMALL, *held, *words])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on pictures without class folders, in `flat/`, with the labels of `labels.csv`."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "flat").mkdir()
    rows = ["path,label"]
    for number in range(30):
        Image.new("RGB", (12, 8), (8 * number, 100, 255 * (number % 2))).save(folder / f"flat/{number}.png")
        rows.append(f"{number}.png,{('cat', 'dog')[number % 2]}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert fit("--data.root=flat", "--data.labels=labels.csv", "--run=one") == 0
    return folder


@pytest.fixture
def first(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the home, whose run may be changed; the run's own root and labels are still the home's."""
    shutil.copytree(home / "lightning_logs", tmp_path / "lightning_logs")
    monkeypatch.chdir(tmp_path)
    before = (home / "labels.csv").read_text(encoding="utf-8")
    yield tmp_path / "lightning_logs/one"
    (home / "labels.csv").write_text(before, encoding="utf-8")


def test_the_run_keeps_what_it_was_trained_with(home: Path) -> None:
    run = home / "lightning_logs/one"
    assert (run / "labels.csv").read_text() == (home / "labels.csv").read_text()
    data = yaml.safe_load((run / "config.yaml").read_text())["data"]
    assert (data["labels"], data["root"]) == (str(home / "labels.csv"), str(home / "flat"))
    with (run / "split.csv").open(newline="") as file:
        assert {row["label"] for row in csv.DictReader(file) if int(row["path"][:-4]) % 2} == {"dog"}
    assert json.loads((run / "class_mapping.json").read_text()) == {"0": "cat", "1": "dog"}


def test_a_run_is_scored_with_its_own_labels_whatever_became_of_the_file(
    home: Path, first: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (home / "labels.csv").read_text(encoding="utf-8")
    (home / "labels.csv").write_text(text.replace("cat", "bird"), encoding="utf-8")
    assert main(["test", "--run=one"]) == 0
    assert main(["validate", "--run=one"]) == 0
    assert main(["predict", "--run=one"]) == 0
    with (first / "report/predictions.csv").open(newline="") as file:
        assert {row["label"] for row in csv.DictReader(file)} == {"cat", "dog"}
    metrics = json.loads((first / "report/metrics.json").read_text())
    assert metrics["data"]["id"] == json.loads((first / "status.json").read_text())["data"]["id"]


def test_other_labels_are_taken_where_they_are_asked_for(home: Path, first: Path) -> None:
    rows = (home / "labels.csv").read_text(encoding="utf-8").splitlines()
    swap = {"cat": "dog", "dog": "cat"}
    turned = [rows[0], *(f"{path},{swap[label]}" for path, label in (row.split(",") for row in rows[1:]))]
    Path("turned.csv").write_text("\n".join(turned) + "\n", encoding="utf-8")
    assert main(["test", "--run=one"]) == 0
    assert main(["test", "--run=one", "--data.labels=turned.csv"]) == 0
    (other,) = first.glob("report-*")  # beside the run's own
    own, theirs = (json.loads((folder / "metrics.json").read_text()) for folder in (first / "report", other))
    assert own["accuracy"] + theirs["accuracy"] == pytest.approx(1.0)
    assert own["data"]["id"] != theirs["data"]["id"]


def test_a_run_goes_on_without_the_file(home: Path, first: Path) -> None:
    before = (first / "split.csv").read_text()
    (home / "labels.csv").unlink()
    assert main(["fit", "--resume=one", "--trainer.max_epochs=2"]) == 0
    assert (first / "split.csv").read_text() == before
    assert yaml.safe_load((first / "config.yaml").read_text())["data"]["labels"] == str(home / "labels.csv")


def test_a_run_does_not_go_on_with_other_labels(home: Path, first: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (home / "labels.csv").read_text(encoding="utf-8")
    (home / "labels.csv").write_text(text.replace("\n4.png,cat", "\n4.png,dog"), encoding="utf-8")
    assert main(["fit", "--resume=one", "--trainer.max_epochs=2"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "goes on with the labels it had, but" in error
    assert "labels.csv has others for 1 of the images" in error
    (home / "labels.csv").write_text(text, encoding="utf-8")
    shutil.copy(home / "labels.csv", "mine.csv")
    assert main(["fit", "--resume=one", "--trainer.max_epochs=2", "--data.labels=mine.csv"]) == 2
    assert "data.labels" in capsys.readouterr().err


def test_another_data_set_has_nothing_of_the_run_s_labels(first: Path, draw: Callable[..., None]) -> None:
    draw(Path("other"), "cat", "dog")
    assert main(["test", "--run=one", "--data.root=other"]) == 0
    (report,) = first.glob("report-*")
    assert json.loads((report / "metrics.json").read_text())["images"] == 20


def test_a_copy_of_the_data_has_the_run_s_labels(home: Path, first: Path) -> None:
    shutil.copytree(home / "flat", "moved")
    assert main(["test", "--run=one", "--data.root=moved"]) == 0
    assert (first / "report/metrics.json").is_file()


def test_check_looks_at_the_labels_of_the_file(home: Path, first: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [f"--data.root={home}/flat", f"--data.labels={home}/labels.csv", "--data.val_fraction=0.2"]
    main(["check", *SMALL, *asked])
    told = capsys.readouterr().out
    assert re.search(r"to train on: dog \d+, cat \d+", told)


@pytest.mark.slow
def test_every_fold_and_every_point_has_the_labels_of_the_file(home: Path, first: Path) -> None:
    asked = [f"--data.root={home}/flat", f"--data.labels={home}/labels.csv", "--trainer.max_epochs=1"]
    assert main(["folds", *SMALL, *asked, "--folds=2", "--run=two-folds"]) == 0
    with Path("lightning_logs/two-folds/report/predictions.csv").open(newline="") as file:
        found = {row["path"]: row["label"] for row in csv.DictReader(file)}
    assert found == {f"{number}.png": ("cat", "dog")[number % 2] for number in range(30)}
    assert main(["sweep", *SMALL, *asked, "--data.val_fraction=0.2", "--grid=model.lr=1e-3,1e-4", "--run=rates"]) == 0
    for run in Path("lightning_logs").glob("rates-*"):
        assert (run / "labels.csv").read_text() == (home / "labels.csv").read_text()
        assert json.loads((run / "class_mapping.json").read_text()) == {"0": "cat", "1": "dog"}
    assert len(list(Path("lightning_logs").glob("rates-*"))) == 2


def test_corrections_of_class_folders(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("labels.csv").write_text("path,label\nant/frame1.png,bee\n", encoding="utf-8")
    assert fit(f"--data.root={root}", "--run=plain") == 0
    assert fit(f"--data.root={root}", "--data.labels=labels.csv", "--run=corrected") == 0
    assert "labels.csv: 1 image of another label than the folder's" in capsys.readouterr().out
    plain, corrected = (
        {row["path"]: row for _, row in read_table(Path(f"lightning_logs/{run}/split.csv"), ("path", "split"), "it")}
        for run in ("plain", "corrected")
    )
    assert {path for path in plain if plain[path] != corrected[path]} == {"ant/frame1.png"}
    assert plain["ant/frame1.png"]["split"] == corrected["ant/frame1.png"]["split"]
    ids = [json.loads(Path(f"lightning_logs/{run}/status.json").read_text()) for run in ("plain", "corrected")]
    assert ids[0]["data"]["id"] != ids[1]["data"]["id"]
    assert ids[0]["split"]["id"] != ids[1]["split"]["id"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["nowhere.png,ant"], "line 2 of"),
        (["/etc/passwd,ant"], "leads out of"),
        (["ant/frame0.png,bee", "ant/frame0.png,cow"], "line 3 of"),
    ],
)
def test_a_broken_file_is_one_line_and_leaves_nothing(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    rows: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("labels.csv").write_text("\n".join(["path,label", *rows]) + "\n", encoding="utf-8")
    assert fit(f"--data.root={root}", "--data.labels=labels.csv") == 2
    error = capsys.readouterr().err.strip()
    assert words in error
    assert len(error.splitlines()) == 1
    assert not list(Path("lightning_logs").glob("*"))
