"""The gate says yes to the same model, and no to another."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vit_lightning.export.parity import Bytes, Floats, Parity, as_predicted, hold_against, made_up
from vit_lightning.module import ViTClassifier

ROOT = Path(__file__).parent.parent.parent

SURE, OTHER = np.array([0.7, 0.2, 0.1], dtype=np.float32), np.array([0.2, 0.7, 0.1], dtype=np.float32)


@pytest.fixture
def model() -> ViTClassifier:
    return ViTClassifier(num_classes=3, image_size=16, patch_size=8, dim=16, depth=1, heads=2, init="article").eval()


def test_what_is_too_far_apart_is_named() -> None:
    found = Parity()
    found.add("a", SURE, SURE)
    found.add("b", SURE, SURE + np.float32(5e-5))
    assert found.record()["passed"] is True
    found.add("c", SURE, OTHER)
    found.add("d", SURE, np.full(3, np.nan, dtype=np.float32))
    assert found.failed == "c by 0.5 and has another label"
    assert (found.pictures, found.largest, found.other_labels) == (4, np.inf, 1)  # of no numbers none is the largest
    assert found.record()["passed"] is False


def test_a_label_may_differ_where_two_classes_are_as_good() -> None:
    found = Parity()
    found.add("a", np.array([0.50005, 0.49995]), np.array([0.49998, 0.50002]))
    assert not found.failed
    assert found.other_labels == 0


def test_the_model_itself_passes_on_files_too(model: ViTClassifier, root: Path, tmp_path: Path) -> None:
    paths = [*root.rglob("*.png"), tmp_path / "gone.png"]
    found = hold_against(model, lambda pictures: as_predicted(model, pictures), paths)
    assert found.pictures == 30 + sum(len(pictures) for _, pictures in made_up((16, 16)))
    assert (found.largest, found.failed) == (0.0, "")
    assert found.reduced == {"pictures": 0, "largest": 0.0, "other_labels": 0}


@pytest.mark.parametrize("mistake", ["mirrored", "colours in another order", "one size alone"])
def test_another_preprocessing_fails(model: ViTClassifier, mistake: str) -> None:
    def exported(pictures: Bytes) -> Floats:
        if mistake == "mirrored":
            pictures = pictures[:, :, ::-1].copy()
        elif mistake == "colours in another order":
            pictures = pictures[..., ::-1].copy()
        elif pictures.shape[1:3] == (240, 320):
            pictures = pictures[:, ::2, ::2].copy()
        return as_predicted(model, pictures)

    found = hold_against(model, exported, [])
    assert found.failed.startswith("a made-up picture of ")
    if mistake == "one size alone":
        assert found.failed.startswith("a made-up picture of 240x320 by ")


def test_onnxruntime_writes_nothing_down_of_this_machine(tmp_path: Path) -> None:
    """Without `ORT_DISABLE_TELEMETRY` it keeps a number for the machine in the cache folder, as soon as imported."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_"))}
    words = [sys.executable, "-c", "import vit_lightning, onnxruntime"]
    subprocess.run(words, env=env | {"HOME": str(tmp_path)}, cwd=ROOT, check=True)
    assert not list(tmp_path.rglob("*"))
