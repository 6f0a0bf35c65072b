"""What the page Use says of a picture."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest

from vit_lightning.data.frames import load_frame
from vit_lightning.data.transforms import frame_size
from vit_lightning.evaluation.embeddings import FILE, embed
from vit_lightning.evaluation.unknown import keep_unknown
from vit_lightning.module import ViTClassifier
from vit_lightning.runs import Run
from vit_lightning.studio.looking import Look, answers


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run that was trained on `seen.png`; `other.png` is another picture."""
    rng = np.random.default_rng(0)
    Image.new("RGB", (24, 16), "red").save(tmp_path / "seen.png")
    Image.fromarray(rng.integers(0, 256, (16, 24, 3), dtype=np.uint8)).save(tmp_path / "other.png")
    torch.manual_seed(0)
    sizes = {"image_size": (16, 24), "patch_size": 8, "dim": 16, "depth": 1, "heads": 2}
    model = ViTClassifier(class_names=["a", "b"], init="article", **sizes).eval()  # type: ignore[arg-type]  # of several kinds
    folder = tmp_path / "lightning_logs" / "first"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "report").mkdir()
    content = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    torch.save(content | {"datamodule_hyper_parameters": {}}, folder / "checkpoints" / "best.ckpt")
    vectors = embed(model.net, load_frame(tmp_path / "seen.png", frame_size((16, 24)))[None])
    np.savez(folder / "report" / FILE, vector=vectors, split=np.array(["train"]))
    return Run(folder, {"state": "finished"})


def strange(run: Run, *names: str) -> list[bool]:
    files = [(name, run.folder.parent.parent / name) for name in names]
    return [answer.stranger for answer in answers(run, files, Look())]


def test_a_picture_unlike_all_of_training_is_called_so(run: Run) -> None:
    assert strange(run, "seen.png", "other.png") == [False, False]  # nobody has found out
    keep_unknown(run.folder, run.checkpoint(), strangers={"threshold": 1e-4})
    assert strange(run, "seen.png", "other.png") == [False, True]


@pytest.mark.parametrize("stranger", [True, False])
def test_the_page_warns_of_it(*, stranger: bool) -> None:
    def page(*, stranger: bool) -> None:
        import numpy as np

        from vit_lightning.studio.looking import Answer
        from vit_lightning.studio.views.use import show_answers

        picture = np.zeros((8, 8, 3), dtype=np.uint8)
        show_answers([None], [Answer("a.png", "", (("a", 0.9),), picture, stranger=stranger)])  # type: ignore[list-item]  # one model's name is not told

    app = AppTest.from_function(page, kwargs={"stranger": stranger}).run()
    assert not app.exception
    told = ["Unlike all pictures that it was trained on: do not count on the label."]
    assert [warning.value for warning in app.warning] == (told if stranger else [])
