"""What several test files share."""

from pathlib import Path

import pytest
import torch

from vit_lightning.data.demo import draw_demo

torch.set_num_threads(1)  # the tests' models are so small that more threads wait for each other


@pytest.fixture(scope="session")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root folder in Kaggle's nested layout with 96 drawn frames, which the tests read only."""
    root = tmp_path_factory.mktemp("frames")
    draw_demo(root, clips=24, size=(36, 64))
    return root
