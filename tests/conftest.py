"""What several test files share."""

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from vit_lightning import cli
from vit_lightning.commands.studio import VARIABLE
from vit_lightning.data.demo import draw_demo
from vit_lightning.module import ViTClassifier
from vit_lightning.studio.roots import Place, place

#: A recipe that trains within seconds, for the studio.
TINY = """seed_everything: 0
trainer:
  max_epochs: 2
  accelerator: cpu
model:
  image_size: [36, 60]
  patch_size: 12
  dim: 16
  depth: 2
  heads: 2
  mlp_ratio: 2.0
data:
  source: folder
  split: random
  val_fraction: 0.25
  test_fraction: 0.25
  augment: light
  batch_size: 16
  num_workers: 0
"""

torch.set_num_threads(1)  # the tests' models are so small that more threads wait for each other


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps what the tests remember of their pictures out of the user's cache folder."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("platformdirs.user_cache_dir", lambda name: str(folder / name))
        yield


class Ear(logging.Handler):
    """Keeps level and text of what is said."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append((record.levelname, record.getMessage()))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str]]]:
    """Level and text of the project's messages from info up, however an earlier test has set the logging up."""
    logger, ear = logging.getLogger("vit_lightning"), Ear()
    monkeypatch.setattr(logger, "handlers", [ear])
    before = logger.level
    logger.setLevel(logging.INFO)
    yield ear.said
    logger.setLevel(before)


@pytest.fixture(scope="session")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root folder in Kaggle's nested layout with 96 drawn frames, which the tests read only."""
    root = tmp_path_factory.mktemp("frames")
    draw_demo(root, clips=24, size=(36, 64))
    return root


@pytest.fixture
def save_model() -> Callable[[ViTClassifier, Path], str]:
    """Writes what a run's checkpoint holds of a model, without a run."""

    def save(model: ViTClassifier, path: Path) -> str:
        content = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
        torch.save(content | {"datamodule_hyper_parameters": {}}, path)
        return str(path)

    return save


@pytest.fixture
def draw() -> Callable[..., None]:
    """Draws so many pictures a folder, each left half black, right half of its own colour: its index, its folder's."""

    def draw(root: Path, *folders: str, count: int = 10) -> None:
        for k, folder in enumerate(folders):
            (root / folder).mkdir(parents=True)
            for index in range(count):
                image = Image.new("RGB", (12, 8))
                image.paste((100 + index, 50 * k, 200), (6, 0, 12, 8))
                image.save(root / folder / f"frame{index + count * k}.png")

    return draw


@pytest.fixture
def root(tmp_path: Path, draw: Callable[..., None]) -> Path:
    """Ten pictures of each of three classes."""
    draw(tmp_path / "set", "ant", "bee", "cow")
    return tmp_path / "set"


@pytest.fixture
def ready_made(tmp_path: Path, draw: Callable[..., None]) -> Path:
    """Ten training and ten test pictures of two classes each."""
    draw(tmp_path / "parts", "train/ant", "train/bee", "test/ant", "test/bee")
    return tmp_path / "parts"


@pytest.fixture
def damaged(root: Path) -> Path:
    """Thirty files, of which three are no pictures."""
    (root / "ant/frame3.png").write_bytes(b"")
    (root / "cow/frame25.png").write_text("no picture")
    content = (root / "bee/frame11.png").read_bytes()
    (root / "bee/frame11.png").write_bytes(content[: len(content) // 2])
    return root


def equal(first: Any, second: Any) -> bool:
    """Whether two states hold the same, to the bit."""
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(equal, first, second))
    return bool(first == second)


@pytest.fixture
def same_run() -> Callable[[Path, Path], None]:
    """Asserts that two runs' folders hold the same weights, optimizer and history, to the bit."""

    def check(run: Path, whole: Path) -> None:
        for name in ("history.csv", "learning_rate.csv", "split.csv"):
            assert (run / name).read_text() == (whole / name).read_text(), name
        for name in ("best.ckpt", "last.ckpt"):
            ours, theirs = (torch.load(folder / "checkpoints" / name) for folder in (run, whole))
            for key in (
                "state_dict",
                "optimizer_states",
                "lr_schedulers",
                "global_step",
                "epoch",
                "current_model_state",
            ):
                assert equal(ours.get(key), theirs.get(key)), f"{name}: {key}"

    return check


# The studio: a working folder with a tiny recipe, pictures, and a run that was trained and tested once


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, frames: Path) -> Path:
    """A working folder with a run that was trained and tested; the tests copy it."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "configs").mkdir()
    for name in ("folder", "demo"):
        (folder / "configs" / f"{name}.yaml").write_text(TINY)
    logger = logging.getLogger("vit_lightning")
    before = logger.handlers[:], logger.level
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.main(["fit", "--config=configs/folder.yaml", f"--data.root={frames}", "--run=first"]) == 0
        assert cli.main(["test", "--run=first"]) == 0
    logger.handlers[:] = before[0]
    logger.setLevel(before[1])
    return folder


@pytest.fixture
def work(tmp_path: Path, trained: Path, frames: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, in which the studio works; its roots are the folder itself and that of the pictures."""
    folder = tmp_path / "work"
    shutil.copytree(trained, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv(VARIABLE, json.dumps({"roots": [str(folder), str(frames)]}))
    return folder


@pytest.fixture
def where(work: Path) -> Place:
    """Where the studio works."""
    return place()


@pytest.fixture
def page(work: Path) -> Callable[..., Any]:
    """A page by its name, run once, with what a session knows by then."""
    from streamlit.testing.v1 import AppTest

    def run(name: str, **state: Any) -> Any:
        tested = AppTest.from_string(
            f"from vit_lightning.studio.views import {name}\n{name}.show()", default_timeout=120
        )
        for key, value in state.items():
            tested.session_state[key] = value
        return tested.run()

    return run
