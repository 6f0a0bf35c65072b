"""A working folder for the studio: a tiny recipe, pictures, and a run that was trained and tested once."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vit_lightning import cli
from vit_lightning.commands.studio import VARIABLE
from vit_lightning.studio.roots import Place, place

RECIPE = """seed_everything: 0
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


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, frames: Path) -> Path:
    """A working folder with a run that was trained and tested; the tests copy it."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "configs").mkdir()
    for name in ("folder", "demo"):
        (folder / "configs" / f"{name}.yaml").write_text(RECIPE)
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
