"""Using a model from Python, without a Trainer."""

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
    assert main(["predict", "--output=labels.csv", "--images", *map(str, pictures)]) == 0
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


def test_top_classes_are_in_order_and_never_more_than_there_are() -> None:
    names = ["a", "b", "c", "d"]
    assert [name for _, name, _ in top_classes(torch.tensor([0.1, 0.2, 0.6, 0.1]), names, k=2)] == ["c", "b"]
    assert top_classes(torch.tensor([0.25, 0.75]), ["x", "y"]) == [(1, "y", 0.75), (0, "x", 0.25)]


def test_find_images_keeps_the_order_and_each_file_once(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "notes.txt", "deep/c.GIF", ".hidden.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    names = [path.relative_to(tmp_path).as_posix() for path in find_images([str(tmp_path)])]
    assert names == ["a.jpg", "b.png", "deep/c.GIF"]
    found = find_images([str(tmp_path / "b.png"), str(tmp_path / "*.*"), str(tmp_path / "**/*.GIF")])
    assert [path.name for path in found] == ["b.png", "a.jpg", "c.GIF"]


@pytest.mark.parametrize(("pattern", "words"), [("nothing", "does not exist"), ("*.png", "matches no image")])
def test_what_leads_nowhere_is_refused_by_name(tmp_path: Path, pattern: str, words: str) -> None:
    with pytest.raises(FileNotFoundError, match=words):
        find_images([str(tmp_path / pattern)])


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no image"):
        find_images([str(tmp_path)])


def test_no_run_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no finished run"):
        load_classifier(logs=tmp_path)
