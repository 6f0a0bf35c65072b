"""Using a model from Python, without a Trainer."""

import csv
import json
import shutil
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest
import torch
from PIL import Image

from vit_lightning.cli import main
from vit_lightning.inference import find_images, load_classifier, predict_paths, top_classes


@pytest.fixture(scope="module")
def home(frames: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        model = ["--model.image_size=[16,32]", "--model.patch_size=8", "--model.dim=16", "--model.heads=2"]
        assert main(["fit", f"--data.root={frames}", *model, "--run=one", "--trainer.max_epochs=1"]) == 0
    return folder


def test_the_model_is_rebuilt_from_the_run_alone(home: Path) -> None:
    model = load_classifier("one", logs=home / "lightning_logs")
    saved = torch.load(home / "lightning_logs/one/checkpoints/best.ckpt")["state_dict"]
    assert not model.training
    assert model.class_names == ["jerry", "tom", "tom_jerry_0", "tom_jerry_1"]
    assert model.net.image_shape == (3, 16, 32)
    torch.testing.assert_close(dict(model.state_dict()), saved)


def test_labels_are_those_of_the_command(home: Path, frames: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    pictures = sorted(frames.rglob("*.jpg"))[:7]
    words = [
        "predict",
        "--trainer.precision=32-true",
        "--output=labels.csv",
        "--images",
    ]  # bf16 rounds, where it is chosen
    assert main([*words, *map(str, pictures)]) == 0
    lines = [line.split(",") for line in Path("labels.csv").read_text().splitlines()[1:]]
    model = load_classifier()
    found = list(predict_paths(model, pictures, batch_size=3))
    assert [path for path, _ in found] == [line[0] for line in lines] == list(map(str, pictures))
    for (_, probabilities), line in zip(found, lines, strict=True):
        assert probabilities.sum().item() == pytest.approx(1.0)
        assert model.class_names[int(probabilities.argmax())] == line[1]
        assert probabilities.max().item() == pytest.approx(float(line[3]), abs=1e-5)


def test_the_transform_is_that_of_validation(home: Path, tmp_path: Path) -> None:
    """A constant picture has one possible tensor: (value - mean) / std in every pixel."""
    Image.new("RGB", (100, 30), (255, 0, 51)).save(tmp_path / "flat.png")
    model = load_classifier("one", logs=home / "lightning_logs")
    pixel = torch.tensor([(1.0 - 0.485) / 0.229, (0.0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225])
    with torch.inference_mode():
        expected = model(pixel[None, :, None, None].expand(1, 3, 16, 32)).softmax(dim=-1)[0]
    ((_, found),) = predict_paths(model, [tmp_path / "flat.png"])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_paths_are_taken_as_they_are_needed(home: Path, frames: Path) -> None:
    """From a generator without an end, one batch ahead; a picture that is named twice is labelled twice."""
    taken = 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        for path in cycle([next(frames.rglob("*.jpg"))]):
            taken += 1
            yield path

    found = predict_paths(load_classifier("one", logs=home / "lightning_logs"), endless(), batch_size=3)
    (first, one), (second, two) = next(found), next(found)
    assert (first, taken) == (second, 6)
    assert torch.equal(one, two)
    for _ in range(2):
        next(found)
    assert taken == 9


def test_an_unreadable_file_is_raised_or_skipped(
    home: Path, frames: Path, tmp_path: Path, told: list[tuple[str, str]]
) -> None:
    model = load_classifier("one", logs=home / "lightning_logs")
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    good = sorted(frames.rglob("*.jpg"))[:3]
    paths = [tmp_path / "bad.jpg", tmp_path / "gone.jpg", good[0], good[1], tmp_path / "bad.jpg", good[2]]
    with pytest.raises(OSError, match=r"bad\.jpg cannot be read: its content is no BMP"):
        next(predict_paths(model, paths))
    with pytest.raises(FileNotFoundError, match=r"gone\.jpg"):
        next(predict_paths(model, paths[1:]))
    expected = dict(predict_paths(model, good))
    for batch_size in (2, 32):  # the first batch of two has nothing that can be read
        told.clear()
        found = dict(predict_paths(model, paths, batch_size=batch_size, on_error="skip"))
        assert list(found) == list(map(str, good))
        for path, probabilities in found.items():
            torch.testing.assert_close(probabilities, expected[path])
        assert [level for level, _ in told] == ["WARNING"] * 3
        assert "gone.jpg" in told[1][1]


def test_a_model_that_gives_no_numbers_labels_nothing(
    home: Path, frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = torch.load(home / "lightning_logs/one/checkpoints/best.ckpt")
    checkpoint["state_dict"]["net.head.bias"][0] = float("nan")
    torch.save(checkpoint, tmp_path / "broken.ckpt")
    monkeypatch.chdir(tmp_path)
    pictures = sorted(frames.rglob("*.jpg"))[:3]
    with pytest.raises(ValueError, match=r"gives no numbers .* lower --model\.lr"):
        next(predict_paths(load_classifier("broken.ckpt"), pictures))
    capsys.readouterr()
    assert main(["predict", "--run=broken.ckpt", "--output=labels.json", "--images", *map(str, pictures)]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("error: the model gives no numbers (nan)")
    assert "nan%" not in captured.out
    assert "warning" not in captured.out
    assert [path.name for path in tmp_path.iterdir()] == ["broken.ckpt"]


def test_top_classes_are_in_order_and_never_more_than_there_are() -> None:
    names = ["a", "b", "c", "d"]
    assert [name for _, name, _ in top_classes(torch.tensor([0.1, 0.2, 0.6, 0.1]), names, k=2)] == ["c", "b"]
    assert top_classes(torch.tensor([0.25, 0.75]), ["x", "y"]) == [(1, "y", 0.75), (0, "x", 0.25)]


# The command


def labelled(path: Path) -> list[str]:
    """The paths in a table of `predict`."""
    with path.open(newline="", encoding="utf-8") as file:
        return [row["path"] for row in csv.DictReader(file)]


@pytest.mark.parametrize("workers", [0, 1])
def test_predict_goes_on_past_unreadable_files_and_ends_with_1(
    home: Path,
    frames: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    workers: int,
) -> None:
    """One within a batch, then a whole batch of them."""
    monkeypatch.chdir(tmp_path)
    good = [str(path) for path in sorted(frames.rglob("*.jpg"))[:3]]
    Path("photo.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    for name in ("empty.jpg", "text.png"):
        Path(name).write_bytes(b"no picture" if name == "text.png" else b"")
    run = home / "lightning_logs/one/checkpoints/best.ckpt"
    command = ["predict", f"--run={run}", f"--data.num_workers={workers}", "--data.batch_size=2", "--output=labels.csv"]
    capsys.readouterr()
    assert main([*command, "--images", good[0], "empty.jpg", "text.png", "photo.heic", *good[1:]]) == 1
    captured = capsys.readouterr()
    assert labelled(Path("labels.csv")) == good
    assert labelled(Path("labels.unreadable.csv")) == ["empty.jpg", "text.png", "photo.heic"]
    assert "3 images: " in captured.out
    assert "warning: empty.jpg has no label: the file is empty\n" in captured.out
    assert "photo.heic has no label: it is a picture in HEIC, which is not read here" in captured.out
    (line,) = captured.err.splitlines()
    assert line.startswith("error: 3 of 6 files could not be read and have no label; all are listed in labels.unread")
    assert main([*command, "--images", *good]) == 0
    assert labelled(Path("labels.csv")) == good
    assert not Path("labels.unreadable.csv").exists()


def test_predict_writes_what_the_ending_says_and_refuses_what_it_cannot(
    home: Path, frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    picture = shutil.copy(next(frames.rglob("*.jpg")), "two\nlines.jpg")
    command = ["predict", f"--run={home / 'lightning_logs/one/checkpoints/best.ckpt'}", "--images", picture]
    capsys.readouterr()
    assert main([*command, "--output=labels.json", "--top=2"]) == 0
    (row,) = json.loads(Path("labels.json").read_text(encoding="utf-8"))
    assert list(row) == ["path", "label", "index", "confidence", "label_2", "confidence_2"]
    assert row["path"] == "two\nlines.jpg"
    assert any(line.startswith(r"two\nlines.jpg  ") for line in capsys.readouterr().out.splitlines())
    for option, words in (("--output=labels.txt", "labels.txt has to end in .csv, .json or .jsonl"), ("--top=0", "0")):
        assert main([*command, option]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.json", "two\nlines.jpg"]


@pytest.mark.parametrize("names", [["bad.jpg"], ["bad.jpg", "worse.jpg", "worst.jpg"]])
def test_predict_without_a_readable_file(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], names: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in names:
        Path(name).write_bytes(b"no picture")
    run = home / "lightning_logs/one/checkpoints/best.ckpt"
    capsys.readouterr()
    assert main(["predict", f"--run={run}", "--data.batch_size=2", "--output=labels.csv", "--images", *names]) == 1
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    expected = "bad.jpg has no label: its content is no BMP" if len(names) == 1 else "3 of 3 files could not be read"
    assert line.startswith(f"error: {expected}")
    assert "images:" not in captured.out
    assert labelled(Path("labels.csv")) == []


def test_held_out_images_that_broke_since_training_do_not_end_predict(
    home: Path, frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(home, ".", dirs_exist_ok=True)
    shutil.copytree(frames, "data")
    command = ["predict", "--run=one", f"--data.root={tmp_path / 'data'}"]
    assert main([*command, "--output=whole.csv"]) == 0
    first, *others = labelled(Path("whole.csv"))
    Path(first).write_bytes(b"")
    assert main([*command, "--output=broken.csv"]) == 1
    assert labelled(Path("broken.csv")) == others
    assert main([*command, "--output=skipped.csv", "--data.on_error=skip"]) == 0
    assert labelled(Path("skipped.csv")) == others


# Finding images


def test_find_images_keeps_the_order_and_each_file_once(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "notes.txt", "deep/c.GIF", ".hidden.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    names = [Path(path).relative_to(tmp_path).as_posix() for path in find_images([str(tmp_path)])]
    assert names == ["a.jpg", "b.png", "deep/c.GIF"]
    found = find_images([str(tmp_path / "b.png"), str(tmp_path / "*.*"), str(tmp_path / "**/*.GIF")])
    assert [Path(path).name for path in found] == ["b.png", "a.jpg", "c.GIF"]


@pytest.mark.parametrize(("pattern", "words"), [("nothing", "does not exist"), ("*.png", "matches no image")])
def test_what_leads_nowhere_is_refused_by_name(tmp_path: Path, pattern: str, words: str) -> None:
    with pytest.raises(FileNotFoundError, match=words):
        find_images([str(tmp_path / pattern)])


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no image; give image files \(\.bmp, .*\.webp\), folders"):
        find_images([str(tmp_path)])


def test_a_folder_of_other_files_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    for name in ("1.heic", "2.HEIC"):
        (tmp_path / name).touch()
    with pytest.raises(FileNotFoundError, match=r"holds no image \(2 \.heic files\); give image files"):
        find_images([str(tmp_path)])


def test_no_run_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no finished run"):
        load_classifier(logs=tmp_path)
