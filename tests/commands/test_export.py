"""`export` from a run to a file that onnxruntime reads without this project."""

import copy
import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from vit_lightning.cli import main
from vit_lightning.commands.export import held_out
from vit_lightning.data.images import load_image
from vit_lightning.inference import load_classifier, predict_paths
from vit_lightning.serve.model import load_model

FIT = ["--model.image_size=[16,24]", "--model.patch_size=8", "--model.dim=16", "--model.depth=1", "--model.heads=2"]
FIT += [
    "--model.stem=conv",
    "--model.lr=0.01",
    "--data.num_workers=0",
    "--data.batch_size=16",
    "--data.test_fraction=0.2",
]
FIT += ["--trainer.accelerator=cpu", "--trainer.max_epochs=3", "--trainer.precision=32-true"]


@pytest.fixture(scope="module")
def home(frames: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with one tested run, `first`, and what it exports."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        shutil.copytree(frames, "data")
        assert main(["fit", "--data.root=data", *FIT, "--run=first"]) == 0
        assert main(["test"]) == 0
        assert main(["export", "--licence=CC BY 4.0", "--pictures=5"]) == 0
    return folder


@pytest.fixture
def session(home: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(home)
    return onnxruntime.InferenceSession("lightning_logs/first/export/model.onnx", providers=["CPUExecutionProvider"])


def test_its_answers_are_predict_s_whatever_size_and_number(session: Any, tmp_path: Path) -> None:
    assert [each.shape for each in session.get_inputs()] == [["batch", "height", "width", 3]]
    model, rng = load_classifier("first"), np.random.default_rng(0)
    for number, height, width in ((1, 16, 24), (3, 50, 40), (2, 1, 1), (1, 600, 333)):
        pictures = rng.integers(0, 256, (number, height, width, 3), dtype=np.uint8)
        paths = [tmp_path / f"{index}.png" for index in range(number)]
        for picture, path in zip(pictures, paths, strict=True):
            Image.fromarray(picture).save(path)
        probabilities, embedding, _ = session.run(None, {"images": pictures})
        expected = torch.stack([each for _, each in predict_paths(model, paths)])
        torch.testing.assert_close(torch.from_numpy(probabilities), expected, atol=1e-5, rtol=0)
        assert embedding.shape == (number, 16)


def test_it_tells_the_strangers_that_predict_tells(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(home)
    model, rng = load_model(Path("lightning_logs/first/export/model.onnx")), np.random.default_rng(0)
    paths = [*sorted(Path("data").rglob("*.jpg"))[:30], *(tmp_path / f"{index}.png" for index in range(10))]
    for path in paths[-10:]:
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path)
    assert main(["predict", "--images", *map(str, paths), "--output=told.csv"]) == 0
    with Path("told.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["stranger"] for row in rows} == {"yes", "no"}
    for row in rows:
        (answer,) = model.answer(np.array(load_image(Path(row["path"])))[None])
        assert answer.stranger is (row["stranger"] == "yes")


def test_it_says_what_it_is_and_how_good(session: Any) -> None:
    told = session.get_modelmeta().custom_metadata_map
    metrics = json.loads(Path("lightning_logs/first/report/metrics.json").read_text())
    status = json.loads(Path("lightning_logs/first/status.json").read_text())
    assert json.loads(told["class_names"]) == ["jerry", "tom", "tom_jerry_0", "tom_jerry_1"]
    assert json.loads(told["test"])["accuracy"] == metrics["accuracy"]
    assert json.loads(told["test"])["intervals"] == metrics["intervals"]
    assert (told["run"], told["data_id"], told["licence"]) == ("first", status["data"]["id"], "CC BY 4.0")


def test_it_holds_what_its_answers_on_held_out_pictures_were(session: Any) -> None:
    told = json.loads(session.get_modelmeta().custom_metadata_map["reference"])
    paths = held_out(Path("lightning_logs/first/checkpoints/best.ckpt"), 5)
    rows = [session.run(None, {"images": np.array(load_image(path))[None]})[0][0] for path in paths]
    counts = np.bincount([row.argmax() for row in rows], minlength=4)
    assert told["pictures"] == len(rows) == 5
    assert told["shares"] == pytest.approx(counts / 5)
    assert told["confidence"] == pytest.approx(np.mean([row.max() for row in rows]), abs=1e-6)


def test_the_gate_s_figures_are_kept(home: Path) -> None:
    parity = json.loads((home / "lightning_logs/first/export/parity.json").read_text())
    assert parity["passed"] is True
    assert parity["pictures"] == 18 + 5
    assert 0 <= parity["mean"] <= parity["largest"] <= 1e-4


def test_a_file_that_says_something_else_is_not_kept(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    good = home / "lightning_logs/first/export/model.onnx"

    def write_another(model: object, path: Path, *_: object) -> None:
        shutil.copy(good, path)

    monkeypatch.setattr("vit_lightning.export.onnx.write_onnx", write_another)
    checkpoint = torch.load("lightning_logs/first/checkpoints/best.ckpt")
    checkpoint["state_dict"]["net.head.bias"][0] += 0.01  # a little
    torch.save(checkpoint, tmp_path / "other.ckpt")
    capsys.readouterr()
    assert main(["export", f"--run={tmp_path / 'other.ckpt'}", f"--output={tmp_path / 'out'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the exported model does not say what predict says: it differs on a made-up picture")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.fixture(scope="module")
def weights(home: Path) -> Path:
    """The folder of the run's exported weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        assert main(["export", "--format=safetensors", "--output=weights", "--pictures=5"]) == 0
    return home / "weights"


def test_weights_are_read_back_by_predict(weights: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    assert sorted(path.name for path in weights.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert (weights / "model.safetensors").read_bytes()[8:9] == b"{"  # a header in JSON: no pickle
    picture = "data/tom_and_jerry/tom_and_jerry/tom"
    told = []
    for run in ("first", "weights", "weights/model.safetensors"):
        assert main(["predict", f"--run={run}", "--images", picture, "--output=told.csv"]) == 0
        with Path("told.csv").open(newline="") as file:
            told.append(list(csv.DictReader(file)))
    assert len(told[0]) > 10
    assert [row.pop("stranger") for row in told[0]]  # the run's own report knows of strangers, which weights do not
    assert told[1] == told[2] == told[0]
    assert main(["test", "--run=weights", "--data.root=data", "--data.split=lightning_logs/first/split.csv"]) == 0


def test_other_weights_than_the_checkpoint_s_are_not_kept(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from vit_lightning.export.weights import write_weights

    def rounded(model: Any, path: Path) -> None:
        write_weights(copy.deepcopy(model).bfloat16(), path)

    monkeypatch.chdir(home)
    monkeypatch.setattr("vit_lightning.export.weights.write_weights", rounded)
    capsys.readouterr()
    assert main(["export", "--format=safetensors", f"--output={tmp_path}", "--pictures=0"]) == 2
    assert "does not say what predict says" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["no safetensors", "half", "foreign", "another network", "changed", "nested"])
def test_weights_of_another_kind_are_one_line(
    weights: Path, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    content, words = (weights / "model.safetensors").read_bytes(), "cannot be read as safetensors"
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"PK\x03\x04 something else" if what == "no safetensors" else content[:1000])
    if what not in ("no safetensors", "half"):
        tensors, arguments = load_file(weights / "model.safetensors"), dict(load_classifier(weights).hparams)
        told = {"vit_lightning": json.dumps(arguments)}
        if what == "foreign":
            told, words = {"format": "pt"}, "`export --format safetensors` has not written it"
        elif what == "another network":
            told, words = {"vit_lightning": json.dumps(arguments | {"depth": 2})}, "do not fit the network"
        elif what == "changed":
            told, words = {"vit_lightning": json.dumps(arguments | {"dim": "wide"})}, "dim is 'wide'"
        else:
            told, words = {"vit_lightning": "[" * 100_000}, "`export --format safetensors` has not written it"
        save_file(tensors, path, metadata=told)
    capsys.readouterr()
    assert main(["predict", f"--run={path}", "--images", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


@pytest.mark.parametrize(
    ("change", "arguments", "words"),
    [
        (None, ["--run=nothing"], ["no run 'nothing'"]),
        (None, ["--format=pickle"], ["--format", "onnx"]),
        (None, ["--format=web", "--runtime=data"], ["--runtime data does not exist", "npm pack onnxruntime-web@"]),
        (None, ["--pictures=-1"], ["--pictures is '-1'"]),
        (None, ["--output=data/tom_and_jerry/tom_and_jerry/tom/frame0.jpg"], ["frame0.jpg", "--output"]),
        ("missing", [], ["export needs onnx and onnxscript and onnxruntime: pip install 'vit-lightning[export]'"]),
    ],
)
def test_mistakes_are_one_line(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: str | None,
    arguments: list[str],
    words: list[str],
) -> None:
    monkeypatch.chdir(home)
    if change == "missing":
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    capsys.readouterr()
    assert main(["export", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(word in line for word in words), line


def test_without_the_pictures_made_up_ones_are_compared(
    home: Path, monkeypatch: pytest.MonkeyPatch, told: list[tuple[str, str]]
) -> None:
    monkeypatch.chdir(home)
    checkpoint = Path("lightning_logs/first/checkpoints/best.ckpt")
    found = held_out(checkpoint, 5)
    assert len(found) == 5
    assert all(path.is_file() for path in found)
    shutil.move("data", "moved")
    try:
        assert held_out(checkpoint, 5) == []
    finally:
        shutil.move("moved", "data")
    assert "made-up ones alone are compared" in told[0][1]
    assert held_out(Path("elsewhere.ckpt"), 5) == []
